//! Containers of a job.
//!
//! Purpose: `container` and `services`. Owner: the lowering.

use doc::{Entry, Node, Spanned};

use super::{Lower, meant::misspelled};
use crate::{
    Container, Credentials, OrExpr, Service, Site, Variables,
    shape::{
        Shape,
        job::{CONTAINER_MAP, CREDENTIALS, SERVICE},
    },
};

impl Lower<'_> {
    pub(super) fn container(&mut self, entry: &Entry) -> Option<Spanned<OrExpr<Container>>> {
        let container = self.container_as(&entry.value, &CONTAINER_MAP)?;
        Some(Spanned::new(container, entry.key.span))
    }

    pub(super) fn services(&mut self, entry: &Entry) -> Option<Spanned<OrExpr<Vec<Service>>>> {
        let services = self.services_of(&entry.value)?;
        Some(Spanned::new(services, entry.key.span))
    }

    fn services_of(&mut self, node: &Node) -> Option<OrExpr<Vec<Service>>> {
        if node.is_null() {
            return None;
        }
        if let Some(template) = self.whole(node, Site::Container) {
            return Some(OrExpr::Expr(template));
        }
        let map = self.map(node, "`services`")?;
        self.by_case(map);
        let mut services = Vec::new();
        for entry in &map.entries {
            if entry.value.is_null() {
                let name = &entry.key.value;
                self.fault(format!("the service `{name}` is empty"), entry.key.span, "expected an image");
                continue;
            }
            let container = self.container_as(&entry.value, &SERVICE);
            services.extend(container.map(|container| Service { name: entry.key.clone(), container }));
        }
        Some(OrExpr::Written(services))
    }

    fn container_as(&mut self, node: &Node, shape: &Shape) -> Option<OrExpr<Container>> {
        if node.is_null() {
            return None;
        }
        if let Some(template) = self.whole(node, Site::Container) {
            return Some(OrExpr::Expr(template));
        }
        let mut container = Container {
            image: None,
            credentials: None,
            env: Variables::default(),
            ports: Vec::new(),
            volumes: Vec::new(),
            options: None,
            cmd: Vec::new(),
            entrypoint: None,
            command: None,
            span: node.span,
        };
        if node.scalar().is_some() {
            container.image = self.template(node, Site::Container, shape.what);
            return Some(OrExpr::Written(container));
        }
        let map = self.map(node, shape.what)?;
        self.keys(map, shape);
        // a container without one is that of the job's label
        let needed = shape.id == SERVICE.id;
        if needed && map.get("image").is_none() && !misspelled(map, shape, "image") {
            let fault = self
                .error("`image` is missing", node.span)
                .label(format!("{} needs it", shape.what))
                .help("add `image: alpine:3.20` or the like");
            self.faults.push(fault);
        }
        let of = |key: &str| map.get(key);
        let site = Site::Container;
        container.image = of("image").and_then(|node| self.template(node, site, "`image`"));
        container.credentials = of("credentials").and_then(|node| self.credentials(node));
        container.env = self.env(map, Site::ContainerEnv);
        container.ports = of("ports").map(|node| self.templates(node, site, "`ports`")).unwrap_or_default();
        container.volumes =
            of("volumes").map(|node| self.templates(node, site, "`volumes`")).unwrap_or_default();
        container.options = of("options").and_then(|node| self.template(node, site, "`options`"));
        container.cmd = of("cmd").map(|node| self.templates(node, site, "`cmd`")).unwrap_or_default();
        container.entrypoint = of("entrypoint").and_then(|node| self.template(node, site, "`entrypoint`"));
        container.command = of("command").and_then(|node| self.template(node, site, "`command`"));
        Some(OrExpr::Written(container))
    }

    fn credentials(&mut self, node: &Node) -> Option<OrExpr<Credentials>> {
        if node.is_null() {
            return None;
        }
        if let Some(template) = self.whole(node, Site::Credentials) {
            return Some(OrExpr::Expr(template));
        }
        let map = self.map(node, "`credentials`")?;
        self.all_keys(map, &CREDENTIALS, node.span);
        let username =
            map.get("username").and_then(|node| self.template(node, Site::Credentials, "`username`"));
        let password =
            map.get("password").and_then(|node| self.template(node, Site::Credentials, "`password`"));
        Some(OrExpr::Written(Credentials { username: username?, password: password? }))
    }
}

//! Options of the official `exec` that mean nothing to VMs.
//!
//! They are recognised, so that a command line that is brought along gets an answer and not "unexpected
//! argument"; none is ignored in silence.

use clap::Args;

/// Every such option; hidden from the help.
#[derive(Debug, Args)]
pub struct Inapplicable {
    #[arg(short = 'p', long, hide = true)]
    pull: bool,
    #[arg(long, hide = true)]
    rebuild: bool,
    #[arg(long, hide = true)]
    privileged: bool,
    #[arg(long, hide = true)]
    userns: Option<String>,
    #[arg(short = '6', long, hide = true)]
    enable_ipv6: bool,
    #[arg(long, hide = true)]
    container_architecture: Option<String>,
    #[arg(long, hide = true)]
    container_daemon_socket: Option<String>,
    #[arg(long, hide = true)]
    container_cap_add: Vec<String>,
    #[arg(long, hide = true)]
    container_cap_drop: Vec<String>,
    #[arg(long, hide = true)]
    container_opts: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    use_gitignore: Option<String>,
    #[arg(long, hide = true)]
    no_skip_checkout: bool,
    #[arg(long, hide = true)]
    insecure_secrets: bool,
    #[arg(long, hide = true)]
    artifact_server_path: Option<String>,
    #[arg(long, hide = true)]
    artifact_server_addr: Option<String>,
    #[arg(long, hide = true)]
    artifact_server_port: Option<String>,
    #[arg(long, hide = true)]
    default_actions_url: Option<String>,
    #[arg(long, hide = true)]
    detect_event: bool,
    #[arg(long, hide = true)]
    gitea_instance: Option<String>,
    #[arg(short = 'd', long, hide = true)]
    debug: bool,
}

/// What is said about an option that was given.
#[derive(Debug, PartialEq, Eq)]
pub struct Notice {
    /// The option.
    pub option: &'static str,
    /// Why it means nothing, and what to do instead.
    pub reason: &'static str,
}

const CONTAINER: &str = "jobs run in microVMs, not in containers";

impl Inapplicable {
    /// One notice for each option that was given.
    pub fn notices(&self) -> Vec<Notice> {
        let given = [
            (self.pull, "--pull", CONTAINER),
            (self.rebuild, "--rebuild", CONTAINER),
            (
                self.privileged,
                "--privileged",
                "a job may do all in its VM anyway: `sudo` makes any command root",
            ),
            (self.userns.is_some(), "--userns", CONTAINER),
            (self.enable_ipv6, "--enable-ipv6", CONTAINER),
            (self.container_architecture.is_some(), "--container-architecture", CONTAINER),
            (self.container_daemon_socket.is_some(), "--container-daemon-socket", CONTAINER),
            (!self.container_cap_add.is_empty(), "--container-cap-add", CONTAINER),
            (!self.container_cap_drop.is_empty(), "--container-cap-drop", CONTAINER),
            (self.container_opts.is_some(), "--container-opts", CONTAINER),
            (self.use_gitignore.is_some(), "--use-gitignore", "ignored files never travel into the VM"),
            (
                self.no_skip_checkout,
                "--no-skip-checkout",
                "a checkout of the own repository takes the working tree",
            ),
            (self.insecure_secrets, "--insecure-secrets", "secrets are always masked"),
            (self.artifact_server_path.is_some(), "--artifact-server-path", "there is no artifact server"),
            (self.artifact_server_addr.is_some(), "--artifact-server-addr", "there is no artifact server"),
            (self.artifact_server_port.is_some(), "--artifact-server-port", "there is no artifact server"),
            (
                self.default_actions_url.is_some(),
                "--default-actions-url",
                "no action is fetched from an instance",
            ),
            (self.detect_event, "--detect-event", "the only event of a workflow is taken without being told"),
            (
                self.gitea_instance.is_some(),
                "--gitea-instance",
                "no instance is asked for anything; `github.server_url` is that of the remote",
            ),
            (self.debug, "--debug", "set AMPOULE_LOG=debug to see what goes on inside"),
        ];
        given.into_iter().filter(|g| g.0).map(|(_, option, reason)| Notice { option, reason }).collect()
    }
}

//! Remote URLs: what of them may enter a VM, and the names that they hold.

/// The URL without user information, query and fragment, or nothing if it is of no form that git's own
/// transports use (an unknown form may hold anything, a command included).
pub(super) fn sanitised(url: &str) -> Option<String> {
    if url.chars().any(|c| c.is_control()) {
        return None;
    }
    if let Some((scheme, rest)) = url.split_once("://") {
        let scheme = scheme.to_ascii_lowercase();
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        return match scheme.as_str() {
            "http" | "https" => {
                let path = path.split(['?', '#']).next().unwrap_or_default();
                let host = host.split(['?', '#']).next().unwrap_or_default();
                Some(format!("{scheme}://{host}{path}"))
            }
            // the login name is no credential, a password is
            "ssh" => {
                let login = user.map(|u| u.split(':').next().unwrap_or_default()).filter(|u| !u.is_empty());
                Some(match login {
                    Some(login) => format!("ssh://{login}@{host}{path}"),
                    None => format!("ssh://{host}{path}"),
                })
            }
            "git" | "file" => Some(format!("{scheme}://{host}{path}")),
            _ => None,
        };
    }
    if url.contains("::") {
        return None;
    }
    match url.split_once(':') {
        // user:password@host:path is no form of git's; what it would hold is a password
        Some((host, path)) if !host.contains('/') => (!path.contains('@')).then(|| url.to_owned()),
        _ => Some(url.to_owned()),
    }
}

/// `owner/repo`: the last two segments of the URL's path.
pub(super) fn repository(url: &str) -> Option<String> {
    let url = sanitised(url)?;
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        None => match url.split_once(':') {
            Some((host, path)) if !host.contains('/') => path,
            // a path of this host names no owner
            _ => return None,
        },
    };
    let mut segments = path.trim_matches('/').rsplit('/').filter(|s| !s.is_empty());
    let name = segments.next()?;
    let name = path_segment(name.strip_suffix(".git").unwrap_or(name));
    let owner = path_segment(segments.next()?);
    Some(format!("{owner}/{name}"))
}

/// `https://host` of the URL.
pub(super) fn server(url: &str) -> Option<String> {
    let url = sanitised(url)?;
    let (scheme, host) = match url.split_once("://") {
        Some(("file", _)) => return None,
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest.split('/').next()?),
        Some((_, rest)) => {
            let authority = rest.split('/').next()?;
            let host = authority.rsplit('@').next()?;
            // the port is that of ssh, not of the web
            ("https", host.split(':').next()?)
        }
        None => match url.split_once(':') {
            Some((host, _)) if !host.contains('/') => ("https", host.rsplit('@').next()?),
            _ => return None,
        },
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']' | '_');
    (!host.is_empty() && host.chars().all(fits)).then(|| format!("{scheme}://{host}"))
}

/// Text as one segment of a path in the VM: nothing that a shell or a path would read as more than a name.
pub(super) fn path_segment(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' })
        .take(100)
        .collect();
    if clean.chars().all(|c| c == '.') { "workspace".to_owned() } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_urls() {
        for (url, expected) in [
            ("https://user:token@codeberg.org/a/b.git", Some("https://codeberg.org/a/b.git")),
            ("https://token@codeberg.org/a/b?private_token=x#y", Some("https://codeberg.org/a/b")),
            ("HTTPS://x@h", Some("https://h")),
            ("https://a@b@h/p", Some("https://h/p")),
            ("ssh://git:pw@h:2222/a/b", Some("ssh://git@h:2222/a/b")),
            ("git@h:a/b.git", Some("git@h:a/b.git")),
            ("user:pw@h:a/b.git", None),
            ("/srv/git/b", Some("/srv/git/b")),
            ("../b", Some("../b")),
            ("ext::sh -c 'id'", None),
            ("foo://x/y", None),
            ("https://h/a\nb", None),
        ] {
            assert_eq!(sanitised(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn names_are_read_from_urls() {
        for (url, name, host) in [
            ("https://codeberg.org/forgejo/runner.git", Some("forgejo/runner"), Some("https://codeberg.org")),
            ("https://h:3000/sub/a/b/", Some("a/b"), Some("https://h:3000")),
            ("git@h:a/b.git", Some("a/b"), Some("https://h")),
            ("ssh://git@h:2222/a/b", Some("a/b"), Some("https://h")),
            ("h:b", None, Some("https://h")),
            ("/srv/git/b.git", None, None),
            ("file:///srv/a/b", Some("a/b"), None),
            ("https://h/../..", Some("workspace/workspace"), Some("https://h")),
            ("https://h/a b/$(id)", Some("a-b/--id-"), Some("https://h")),
        ] {
            assert_eq!(repository(url).as_deref(), name, "{url}");
            assert_eq!(server(url).as_deref(), host, "{url}");
        }
    }
}

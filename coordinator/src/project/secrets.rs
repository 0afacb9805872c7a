//! Secrets in a project's files: they are referred to, never written.

use outflow_destinations::manifest::Auth;
use outflow_destinations::{Manifest, catalog};
use outflow_model::secret::references;
use url::{Host, Url};

use super::config::DestinationConfig;
use super::load::Project;
use super::yaml::Problem;

/// Secrets of a destination that stand in outflow.yml as they are, and places to which they would go unencrypted.
pub fn check_secrets(project: &Project, destination: &str) -> Vec<Problem> {
    let Some(config) = project.config.destinations.get(destination) else { return Vec::new() };
    // What is wrong with the manifest itself is told where it is used.
    let Some(manifest) = manifest(project, config) else { return Vec::new() };
    let problem = |field: &str, reason: String| project.problem(&format!("destinations.{destination}.{field}"), reason);
    let mut problems = Vec::new();
    for (name, field) in manifest.config.iter().filter(|(_, field)| field.secret) {
        let Some(text) = config.settings.get(name).filter(|text| references(text).next().is_none()) else { continue };
        let reason = format!("{} is a secret, and does not belong into this file. {}", field.label, instead(text));
        problems.push(problem(&format!("settings.{name}"), reason));
    }
    if config.proxy.as_deref().is_some_and(|proxy| has_password(proxy) && references(proxy).next().is_none()) {
        let reason = format!("The proxy's password does not belong into this file. {}", instead(""));
        problems.push(problem("proxy", reason));
    }
    let base = config.base_url.as_ref().or(manifest.base_url.as_ref());
    let takes_secrets = !matches!(manifest.auth, Auth::None) && !config.allow_plain_http;
    if takes_secrets && base.is_some_and(|base| is_open(base)) {
        problems.push(problem("base_url", OPEN.to_owned()));
    }
    if let Some((setting, url)) = token_url(&manifest, config) {
        let is_address = ["/", "https://", "http://"].iter().any(|start| url.starts_with(start));
        if !is_address {
            let reason = "It must be the address of a token endpoint; write https://HOST/PATH.".to_owned();
            problems.push(problem(&format!("settings.{setting}"), reason));
        } else if takes_secrets && is_open(&url) {
            problems.push(problem(&format!("settings.{setting}"), OPEN.to_owned()));
        }
    }
    problems
}

const OPEN: &str =
    "Credentials would go there unencrypted. Write https://, or set `allow_plain_http: true` if that is meant.";

/// The setting that says where tokens are asked for, and what it says, where that is no reference.
fn token_url(manifest: &Manifest, config: &DestinationConfig) -> Option<(String, String)> {
    let value = |name: &str| config.settings.get(name).or(manifest.config.get(name)?.default.as_ref()).cloned();
    let setting = manifest.auth.chosen(value).ok()?.token_url()?;
    let url = value(setting).filter(|url| references(url).next().is_none())?;
    Some((setting.to_owned(), url))
}

fn manifest(project: &Project, config: &DestinationConfig) -> Option<Manifest> {
    match &config.manifest {
        Some(path) => Manifest::parse(&std::fs::read_to_string(project.root.join(path)).ok()?).ok(),
        None => catalog::manifest(&config.r#type)?.ok(),
    }
}

/// What to write in the place of a secret, which is not repeated, unless it is the name of a variable.
fn instead(text: &str) -> String {
    let name = text.trim().strip_prefix('$').map(|name| name.trim_matches(['{', '}']));
    let is_name = |name: &&str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    match name.filter(is_name) {
        Some(name) => format!("Write \"${{env:{name}}}\"."),
        None => "Write \"${env:NAME}\" or \"${file:PATH}\", and put it there.".to_owned(),
    }
}

fn has_password(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.password().is_some())
}

/// Whether what is sent there can be read on the way. A place that is referred to is looked at when it is used.
fn is_open(base: &str) -> bool {
    Url::parse(base).is_ok_and(|url| {
        let is_here = match url.host() {
            Some(Host::Ipv4(v4)) => v4.is_loopback(),
            Some(Host::Ipv6(v6)) => v6.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            None => true,
        };
        url.scheme() == "http" && !is_here
    })
}

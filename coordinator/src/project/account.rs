//! The account that a sync writes to, with its manifest: both as workers need them.

use outflow_destinations::manifest::ManifestProblem;
use outflow_destinations::{Manifest, catalog};
use outflow_model::base_url;
use outflow_model::secret::references;
use outflow_model::suggest::did_you_mean;
use outflow_model::wire::AccountV1;

use super::bounds;
use super::config::DestinationConfig;
use super::load::{Project, Sync};
use super::yaml::Problem;

/// A destination of the project, and where it stands.
struct Destination<'a> {
    project: &'a Project,
    name: &'a str,
    config: &'a DestinationConfig,
}

impl Destination<'_> {
    /// A mistake at one of its fields.
    fn problem(&self, field: &str, reason: impl Into<String>) -> Problem {
        self.project.document.problem(&format!("destinations.{}.{field}", self.name), reason)
    }

    /// The text of a file that `field` names.
    fn read(&self, field: &str, path: &std::path::Path) -> Result<String, Vec<Problem>> {
        std::fs::read_to_string(self.project.root.join(path))
            .map_err(|error| vec![self.problem(field, format!("{} cannot be read: {error}.", path.display()))])
    }

    /// Its manifest; with its text, where the project brings it.
    fn manifest(&self) -> Result<(Manifest, Option<String>), Vec<Problem>> {
        let kind = &self.config.r#type;
        if let Some(path) = &self.config.manifest {
            let text = self.read("manifest", path)?;
            let placed = |ManifestProblem { line, column, key, reason }| Problem {
                file: path.display().to_string(),
                line,
                column,
                field: key,
                reason,
            };
            let manifest =
                Manifest::parse(&text).map_err(|error| error.problems.into_iter().map(placed).collect::<Vec<_>>())?;
            catalog::open(manifest.clone()).map_err(|problem| vec![self.problem("manifest", problem)])?;
            return Ok((manifest, Some(text)));
        }
        match catalog::manifest(kind) {
            Some(manifest) => Ok((manifest.map_err(|problem| vec![self.problem("type", problem)])?, None)),
            None if kind == "http" => Err(vec![self.problem("type", "A destination of type http needs `manifest:`.")]),
            None => {
                let hint = did_you_mean(kind, catalog::names().chain(["http"]));
                Err(vec![self.problem("type", format!("There is no destination type \"{kind}\".{hint}"))])
            }
        }
    }

    /// Its settings are those of the manifest, and none is missing.
    fn check_settings(&self, manifest: &Manifest) -> Vec<Problem> {
        let settings = &self.config.settings;
        let at = |setting: &str, reason: String| self.problem(&format!("settings.{setting}"), reason);
        let missing = |setting: &str, label: &str| {
            self.problem("settings", format!("The setting `{setting}` ({label}) is missing."))
        };
        let mut problems = Vec::new();
        for setting in settings.keys().filter(|setting| !manifest.config.contains_key(*setting)) {
            let hint = did_you_mean(setting, manifest.config.keys().map(String::as_str));
            problems.push(at(setting, format!("{} has no setting \"{setting}\".{hint}", manifest.title)));
        }
        for (setting, field) in &manifest.config {
            if field.default.is_none() && !field.optional && !settings.contains_key(setting) {
                problems.push(missing(setting, &field.label));
            }
        }
        for (setting, field) in manifest.config.iter().filter(|(_, field)| field.number) {
            let Some(text) = settings.get(setting).filter(|text| !text.contains("${")) else { continue };
            if !text.parse::<f64>().is_ok_and(|number| number > 0.0 && number.is_finite()) {
                problems.push(at(setting, format!("\"{text}\" is no number above 0 ({}).", field.label)));
            }
        }
        let value = |name: &str| settings.get(name).or(manifest.config.get(name)?.default.as_ref()).cloned();
        match manifest.auth.chosen(value) {
            Ok(chosen) => {
                for setting in chosen.settings().into_iter().filter(|setting| value(setting).is_none()) {
                    problems.push(missing(setting, manifest.config.get(setting).map_or("", |field| &field.label)));
                }
            }
            Err(reason) => problems.push(self.problem("settings", reason)),
        }
        problems
    }

    /// It says where its API is. What is referred to is looked at when it is used.
    fn check_base_url(&self, manifest: &Manifest) -> Option<Problem> {
        let Some(base) = self.config.base_url.as_ref().or(manifest.base_url.as_ref()) else {
            return Some(self.problem("base_url", "Say where the account's API is: `base_url: https://…`."));
        };
        let mistake =
            Some(base).filter(|base| references(base).next().is_none()).and_then(|base| base_url::mistake(base));
        mistake.map(|mistake| self.problem("base_url", mistake))
    }

    fn account(&self, manifest: &Manifest, text: Option<String>) -> Result<AccountV1, Vec<Problem>> {
        let config = self.config;
        let mut limits = config.limits.clone().unwrap_or_else(|| manifest.limits.clone());
        limits.reserve_percent = config.reserve.map_or(limits.reserve_percent, |share| share.0);
        Ok(AccountV1 {
            name: self.name.to_owned(),
            kind: config.r#type.clone(),
            manifest: text,
            base_url: config.base_url.clone(),
            settings: config.settings.clone(),
            allow_private_addresses: config.allow_private_addresses,
            allow_plain_http: config.allow_plain_http,
            proxy: config.proxy.clone(),
            ca: config.ca_file.as_ref().map(|path| self.read("ca_file", path)).transpose()?,
            timeout_ms: u64::from(config.timeout_seconds) * 1_000,
            limits,
        })
    }
}

/// The account that `sync` writes to, its manifest, and how many chunks are delivered at a time.
pub(super) fn account_of(project: &Project, sync: &Sync) -> Result<(AccountV1, Manifest, u32), Vec<Problem>> {
    let name = &sync.config.destination;
    let config = project.config.destinations.get(name).ok_or_else(|| {
        let hint = did_you_mean(name, project.config.destinations.keys().map(String::as_str));
        vec![sync.document.problem("destination", format!("There is no destination \"{name}\" in outflow.yml.{hint}"))]
    })?;
    if let Some(mistake) = bounds::check_type(project, name, config) {
        return Err(vec![mistake]);
    }
    let destination = Destination { project, name, config };
    let (manifest, text) = destination.manifest()?;
    let mut problems = bounds::check_destination(project, name, config);
    problems.extend(destination.check_settings(&manifest));
    problems.extend(destination.check_base_url(&manifest));
    problems.dedup();
    if !problems.is_empty() {
        return Err(problems);
    }
    let account = destination.account(&manifest, text)?;
    Ok((account, manifest, config.concurrency))
}

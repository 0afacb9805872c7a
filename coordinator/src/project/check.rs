//! A sync made ready: every name resolved, every rule checked. It reads the files that the project names: no network, no environment.

use outflow_destinations::manifest::{BulkSpec, ObjectSpec};
use outflow_destinations::{Manifest, catalog};
use outflow_model::change::{Change, Operation};
use outflow_model::mapping::{Mapper, Mapping, Origin, SourceColumn, canonical};
use outflow_model::mode::{Mode, Removal};
use outflow_model::suggest::did_you_mean;
use outflow_model::wire::AccountV1;
use outflow_sources::{Query, SourceConfig};

use super::account::account_of;
use super::bounds;
use super::config::{Bulk, SyncConfig};
use super::load::{Model, Project, Sync};
use super::paths;
use super::yaml::Problem;

/// A sync with everything that it names.
#[derive(Clone, Debug)]
pub struct ResolvedSync {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub config: SyncConfig,
    /// The name of its model's source.
    pub source_name: String,
    /// The source of its model, secrets as references.
    pub source: SourceConfig,
    /// What the model asks for.
    pub query: Query,
    /// The key's columns.
    pub key: Vec<String>,
    /// For each key column: whether rows are the same though it differs in case or surrounding blanks.
    pub fold: Vec<bool>,
    /// The destination fields that address a record.
    pub identity: Vec<String>,
    /// What is done with removed rows.
    pub removal: Removal,
    /// The columns to fetch: key first, then the rest, sorted.
    pub columns: Vec<String>,
    /// The account as workers need it.
    pub account: AccountV1,
    /// Chunks delivered at a time.
    pub concurrency: u32,
    /// The destination's manifest.
    pub manifest: Manifest,
}

impl ResolvedSync {
    /// What is sent for `change`.
    pub fn operation(&self, change: Change) -> Option<Operation> {
        self.config.mode.operation(change, self.removal, self.config.append)
    }

    /// Whether sending twice does no harm.
    pub fn repeatable(&self, operation: Operation) -> bool {
        self.manifest.repeatable(operation)
    }

    /// Whether sending anything twice that it sends does no harm.
    pub fn is_repeatable(&self) -> bool {
        self.non_repeatable().is_empty()
    }

    /// The operations that it sends and that may not be sent twice.
    pub fn non_repeatable(&self) -> Vec<Operation> {
        let operations = Change::ALL.into_iter().filter_map(|change| self.operation(change));
        operations.filter(|operation| !self.repeatable(*operation)).collect()
    }

    /// The bulk interface, where so many records of one operation go by it.
    pub fn bulk(&self, operation: Operation, records: u64) -> Option<&BulkSpec> {
        let spec = self.manifest.operation(operation)?.bulk.as_ref()?;
        let bulk = match self.config.delivery.bulk {
            Bulk::Always => true,
            Bulk::Never => false,
            Bulk::Auto => records > spec.from,
        };
        bulk.then_some(spec)
    }

    /// Whether the snapshot keeps the keys' values: where removed rows are addressed, or unknown ones are decided.
    pub fn keeps_keys(&self) -> bool {
        let writes = [Change::Add, Change::Change].into_iter().filter_map(|change| self.operation(change));
        self.config.mode.removes() || !writes.into_iter().all(|operation| self.repeatable(operation))
    }

    /// Whether a value of the key must not be shown: a sensitive field is made of it.
    pub fn hides_keys(&self) -> bool {
        let mut sensitive = self.config.mapping.clone();
        sensitive.retain(|_, rule| rule.sensitive);
        Mapper::columns(&sensitive).iter().any(|column| self.key.contains(column))
    }

    /// The mapping's text, of which the row hashes' seed is made.
    pub fn mapping_text(&self) -> String {
        canonical(&self.config.mapping, &self.identity, &self.key)
    }

    /// The text of every setting that a plan depends on.
    pub fn settings_text(&self) -> String {
        let SyncConfig { object, mode, append, delivery, .. } = &self.config;
        let (query, text) = match &self.query {
            Query::Sql(sql) => ("sql", &sql.text),
            Query::Files(files) => ("files", &files.pattern),
        };
        // An upgrade may bring another manifest of a built-in destination.
        let manifest = self.account.manifest.as_deref().or_else(|| catalog::text(&self.account.kind));
        let manifest = manifest.map(|text| outflow_snapshot::fingerprint(text.as_bytes()));
        let mut parts = serde_json::json!({
            "source": self.source,
            query: text,
            "object": object,
            "mode": mode,
            "append": append,
            "fold": self.fold,
            "removal": self.removal,
            "bulk": delivery.bulk,
            "account": self.account.name,
            "kind": self.account.kind,
            "manifest": manifest,
            "base_url": self.account.base_url,
        });
        without_nulls(&mut parts);
        format!("outflow settings 1\n{parts}\n{}", self.mapping_text())
    }

    /// Checks the mapping against the model's columns.
    pub fn mapper(&self, columns: &[SourceColumn], sync: &Sync) -> Result<Mapper, Vec<Problem>> {
        let identity: Vec<&str> = self.identity.iter().map(String::as_str).collect();
        let names = || columns.iter().map(|column| column.name.as_str());
        if let Some(key) = self.key.iter().find(|key| !names().any(|name| name == **key)) {
            let mut hint = did_you_mean(key, names());
            if hint.is_empty() {
                let some: Vec<&str> = names().take(20).collect();
                hint =
                    format!(" It has: {}{}.", some.join(", "), if names().count() > some.len() { ", …" } else { "" });
            }
            let reason =
                format!("The model \"{}\" has no column \"{key}\", which is its key.{hint}", self.config.model);
            return Err(vec![sync.document.problem("model", reason)]);
        }
        let doubled = self.columns.iter().find(|wanted| names().filter(|name| *name == **wanted).count() > 1);
        if let Some(name) = doubled {
            let model = &self.config.model;
            let reason =
                format!("The model \"{model}\" has two columns called \"{name}\"; give each a name of its own.");
            return Err(vec![sync.document.problem("model", reason)]);
        }
        Mapper::new(&self.config.mapping, &identity, columns).map_err(|problems| bounds::placed(sync, problems))
    }
}

/// Takes out what is not set, so that a setting which a later version adds changes nothing for those who do not use it.
fn without_nulls(value: &mut serde_json::Value) {
    if let serde_json::Value::Object(members) = value {
        members.retain(|_, member| !member.is_null());
        members.values_mut().for_each(without_nulls);
    }
}

/// The sync called `name`.
fn sync_of<'p>(project: &'p Project, name: &str) -> Result<&'p Sync, Vec<Problem>> {
    let mistakes = project.mistakes_of("syncs", name);
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    project.syncs.get(name).ok_or_else(|| {
        let names = project.names();
        let hint = did_you_mean(name, names.iter().map(String::as_str));
        let reason = format!("There is no sync \"{name}\".{hint}");
        let file = format!("syncs/{name}.yml");
        vec![Problem { file, line: 0, column: 0, field: String::new(), reason }]
    })
}

/// The model that a sync reads.
fn model_of<'p>(project: &'p Project, sync: &Sync) -> Result<&'p Model, Vec<Problem>> {
    let name = &sync.config.model;
    let mistakes = project.mistakes_of("models", name);
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    project.models.get(name).ok_or_else(|| {
        let hint = did_you_mean(name, project.models.keys().map(String::as_str));
        vec![sync.document.problem("model", format!("There is no model \"{name}\".{hint}"))]
    })
}

/// Finds what is wrong with models by themselves, whether or not a sync uses them.
pub fn check_models(project: &Project) -> Vec<Problem> {
    let mut problems = Vec::new();
    for model in project.models.values() {
        problems.extend(source_of(project, model).err().into_iter().flatten());
        problems.extend(keyless(model));
    }
    problems
}

/// The mistake of a model without a key.
fn keyless(model: &Model) -> Option<Problem> {
    model.config.key.0.is_empty().then(|| model.document.problem("key", "Name at least one column."))
}

/// Resolves a sync by its name.
pub fn resolve(project: &Project, name: &str) -> Result<ResolvedSync, Vec<Problem>> {
    let sync = sync_of(project, name)?;
    let config = &sync.config;
    let model = model_of(project, sync)?;
    let source = source_of(project, model)?;
    let (account, manifest, concurrency) = account_of(project, sync)?;
    let object = manifest.object(&config.object).ok_or_else(|| {
        let hint = did_you_mean(&config.object, manifest.objects.keys().map(String::as_str));
        let reason = format!("{} has no object \"{}\".{hint}", manifest.title, config.object);
        vec![sync.document.problem("object", reason)]
    })?;
    let identity = if config.identity.0.is_empty() { object.identity.clone() } else { config.identity.0.clone() };
    let key = model.config.key.0.clone();
    let mut problems = Vec::new();
    check_mode(sync, &manifest, object, &mut problems);
    let removal = removal(sync, &manifest, object, &mut problems);
    check_object(sync, &manifest, object, &identity, &mut problems);
    problems.extend(keyless(model));
    problems.extend(bounds::check_sync(sync));
    problems.extend(check_identity(sync, &identity, &key));
    if manifest.style.nest {
        problems.extend(paths::check(sync));
    }
    problems.extend(bounds::placed(sync, Mapper::check(&config.mapping)));
    if config.mapping.is_empty() {
        problems.push(sync.document.problem("mapping", "Map at least one field."));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut columns = key.clone();
    columns.extend(Mapper::columns(&config.mapping).into_iter().filter(|column| !key.contains(column)));
    // A record id is what the destination has made of it: two that differ in case alone are two.
    let is_record_id = identity.iter().any(|field| object.update_only.contains(field));
    let folds = config.fold_case.unwrap_or(object.fold_case && !is_record_id);
    let fold = key.iter().map(|column| folds && is_identity(&config.mapping, &identity, column)).collect();
    Ok(ResolvedSync {
        name: name.to_owned(),
        config: config.clone(),
        source_name: model.config.source.clone(),
        source,
        query: model.query.clone(),
        key,
        fold,
        identity,
        removal,
        columns,
        account,
        concurrency,
        manifest,
    })
}

/// The object can be written in the sync's mode, and by the bulk interface where the sync insists on it.
fn check_mode(sync: &Sync, manifest: &Manifest, object: &ObjectSpec, problems: &mut Vec<Problem>) {
    let config = &sync.config;
    if !object.modes.contains(&config.mode) {
        let could: Vec<_> = object.modes.iter().map(|mode| mode.name()).collect();
        let reason = format!(
            "{} {} cannot be written in mode {}. Use one of: {}.",
            manifest.title,
            config.object,
            config.mode.name(),
            could.join(", ")
        );
        problems.push(sync.document.problem("mode", reason));
    }
    let bulk = manifest.operations.values().any(|operation| operation.bulk.is_some());
    if config.delivery.bulk == Bulk::Always && !bulk {
        let reason = format!("{} has no bulk interface.", manifest.title);
        problems.push(sync.document.problem("delivery.bulk", reason));
    }
}

/// What is done with removed rows, which the object can do in mode mirror.
fn removal(sync: &Sync, manifest: &Manifest, object: &ObjectSpec, problems: &mut Vec<Problem>) -> Removal {
    let config = &sync.config;
    let removals = if object.removals.is_empty() { vec![Removal::Delete] } else { object.removals.clone() };
    let removal = config.remove.or_else(|| removals.first().copied()).unwrap_or_default();
    if config.mode == Mode::Mirror && !removals.contains(&removal) {
        let could: Vec<String> = removals.iter().map(|removal| format!("{removal:?}").to_lowercase()).collect();
        let reason = format!("{} {} can only: {}.", manifest.title, config.object, could.join(", "));
        problems.push(sync.document.problem("remove", reason));
    }
    removal
}

/// The object's records are addressed by the identity.
fn check_object(
    sync: &Sync,
    manifest: &Manifest,
    object: &ObjectSpec,
    identity: &[String],
    problems: &mut Vec<Problem>,
) {
    let config = &sync.config;
    let what = format!("{} {}", manifest.title, config.object);
    let mut wrong = |reason: String| problems.push(sync.document.problem("identity", reason));
    if identity.is_empty() && config.mode != Mode::Append {
        wrong(format!("Say which field addresses a record of {what}: `identity: [field]`."));
    }
    if object.one_identity_field && identity.len() > 1 {
        wrong(format!("{what} addresses a record by one field."));
    }
    let only = |field: &&String| object.update_only.iter().any(|only| only.eq_ignore_ascii_case(field));
    if let Some(field) = identity.iter().find(only).filter(|_| config.mode != Mode::Update) {
        wrong(format!("{what} is addressed by \"{field}\" in mode update alone: a record that is not there has none."));
    }
}

/// A removed row is addressed by what is known of its key, so identity and key must be the same columns.
fn check_identity(sync: &Sync, identity: &[String], key: &[String]) -> Vec<Problem> {
    let mapping = &sync.config.mapping;
    let mut problems = Vec::new();
    let mut columns = Vec::new();
    for field in identity {
        let Some(rule) = mapping.get(field) else {
            let reason = format!("The field \"{field}\" addresses the record and must be mapped.");
            problems.push(sync.document.problem("mapping", reason));
            continue;
        };
        match rule.origin() {
            Ok(Origin::Column(column)) if rule.hash.is_none() => columns.push(column.to_owned()),
            Ok(_) => {
                let reason = "It addresses the record, so it must come from a key column as it is.";
                problems.push(sync.document.problem(&format!("mapping.{field}"), reason));
            }
            Err(_) => {}
        }
    }
    let (mut have, mut want) = (key.to_vec(), columns.clone());
    have.sort();
    want.sort();
    if problems.is_empty() && !identity.is_empty() && have != want {
        let reason = format!(
            "The record is addressed by column {}, but the model's key is {}. Make `key: [{}]` in model \"{}\".",
            columns.join(", "),
            key.join(", "),
            columns.join(", "),
            sync.config.model
        );
        problems.push(sync.document.problem("model", reason));
    }
    problems
}

fn is_identity(mapping: &Mapping, identity: &[String], column: &str) -> bool {
    identity.iter().any(|field| mapping.get(field).is_some_and(|rule| rule.column.as_deref() == Some(column)))
}

fn source_of(project: &Project, model: &Model) -> Result<SourceConfig, Vec<Problem>> {
    let name = &model.config.source;
    let source = project.config.sources.get(name).ok_or_else(|| {
        let hint = did_you_mean(name, project.config.sources.keys().map(String::as_str));
        vec![model.document.problem("source", format!("There is no source \"{name}\" in outflow.yml.{hint}"))]
    })?;
    if source.speaks_sql() == matches!(model.query, Query::Sql(_)) {
        return Ok(source.clone());
    }
    let reason = if source.speaks_sql() {
        "The source speaks SQL: write a query instead of `files`."
    } else {
        "The source is files: set `files:` to a path, a folder or a pattern; SQL over files is not supported."
    };
    Err(vec![model.document.problem("source", reason)])
}

/// What a destination says of an object's fields; a list is empty where it does not tell.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    /// Those that can be written.
    pub writable: &'a [String],
    /// Those that can address a record.
    pub identifying: &'a [String],
    /// Names under which fields of other records are written.
    pub relations: &'a [String],
}

/// Checks the mapping against the fields that the destination says it has.
pub fn check_catalog(resolved: &ResolvedSync, sync: &Sync, fields: Fields<'_>) -> Vec<Problem> {
    let what = format!("{} {}", resolved.manifest.title, resolved.config.object);
    let mut problems = Vec::new();
    let known = |field: &String| {
        let relation = field.split_once('.').map(|(relation, _)| relation);
        fields.writable.contains(field)
            || relation.is_some_and(|relation| fields.relations.iter().any(|known| known == relation))
            || (resolved.identity.contains(field) && fields.identifying.contains(field))
    };
    for field in resolved.config.mapping.keys().filter(|field| !fields.writable.is_empty() && !known(field)) {
        let hint = did_you_mean(field, fields.writable.iter().map(String::as_str));
        let reason = format!("{what} has no writable field \"{field}\".{hint}");
        problems.push(sync.document.problem(&format!("mapping.{field}"), reason));
    }
    let addresses = |field: &String| fields.identifying.is_empty() || fields.identifying.contains(field);
    for field in resolved.identity.iter().filter(|field| fields.writable.contains(field) && !addresses(field)) {
        let could = fields.identifying.join(", ");
        let reason = format!("\"{field}\" of {what} does not address a record. Use one of: {could}.");
        problems.push(sync.document.problem("identity", reason));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(own: &str) -> Result<String, Vec<Problem>> {
        let folder = tempfile::tempdir().expect("a folder");
        let files = [
            (
                "outflow.yml",
                "version: 1\nsources:\n  s: { type: files, path: . }\ndestinations:\n  crm: { type: blackhole }\n",
            ),
            ("models/people.yml", "source: s\nkey: id\nfiles: a.csv\n"),
            (
                "syncs/people.yml",
                "model: people\ndestination: crm\nobject: x\nidentity: [id]\nmode: upsert\nmapping: { id: id }\n",
            ),
        ];
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            let own = if name.starts_with("syncs") { own } else { "" };
            std::fs::write(path, format!("{text}{own}")).expect("a file");
        }
        Ok(resolve(&Project::load(folder.path())?, "people")?.settings_text())
    }

    #[test]
    fn plan_depends_on_a_built_in_manifest_and_on_whether_case_counts() -> Result<(), Vec<Problem>> {
        let text = catalog::text("blackhole").expect("a manifest");
        assert!(settings("")?.contains(&outflow_snapshot::fingerprint(text.as_bytes())));
        assert_ne!(settings("fold_case: true\n")?, settings("fold_case: false\n")?);
        Ok(())
    }
}

//! Templates: Jinja syntax, no access to anything but the row, and a bound on the work.
//!
//! The engine's own operators know floats and texts alone, and turn null into a word. A compiled template therefore calls
//! [`calls`] in their place: null stays null, as in SQL, and decimals stay exact.

mod calls;
mod literal;
mod number;
mod value;

use std::collections::{BTreeMap, BTreeSet};

use minijinja::machinery::{CodeGenerator, Instruction, Instructions, eval, make_string_output, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, Output, State, UndefinedBehavior, Value};

use self::calls::{ITEM, MEMBER};
use self::value::UNDEFINED;
use crate::cell::Cell;
use crate::suggest::did_you_mean;

/// The methods that there are: those of `loop`.
const LOOP_METHODS: [&str; 2] = ["changed", "cycle"];

/// Instructions that one rendering may take.
const FUEL: u64 = 50_000;
/// The name under which a template reads columns whose names are not words: `row["First Name"]`.
const ROW: &str = "row";
/// Set in a rendering that has printed a null.
const NULL: &str = "null";
/// Filters, for the nearest name.
const FILTERS: &[&str] = &[
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "date",
    "decimal",
    "default",
    "dictsort",
    "escape",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "json",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "sha256",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "zip",
];

/// A template that is known to compile.
pub(super) struct Template {
    environment: Environment<'static>,
    /// As [`literal::hidden`] has it.
    source: String,
    columns: Vec<String>,
    has_row: bool,
}

impl Template {
    /// Compiles `source`, or says what is wrong with it.
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_formatter(print);
        calls::add_to(&mut environment);
        // It would print what the engine holds.
        environment.remove_global("debug");
        environment.add_template_owned("field", source.to_owned()).map_err(|error| explain(&error))?;
        let free = environment.get_template("field").map_err(|error| explain(&error))?.undeclared_variables(false);
        let source = literal::hidden(source).into_owned();
        let mut template = Self { environment, source, columns: Vec::new(), has_row: false };
        let (columns, has_row) = {
            let instructions = template.instructions()?;
            template.check_names(&instructions, &free.iter().map(String::as_str).collect())?;
            // The engine does not look into slices for its list.
            let bound: BTreeSet<&str> = each(&instructions)
                .filter_map(
                    |(_, instruction)| if let Instruction::StoreLocal(name) = instruction { Some(*name) } else { None },
                )
                .chain(["loop"])
                .chain(template.environment.globals().map(|(name, _)| name))
                .collect();
            reads(&instructions, |name| free.contains(name) || !bound.contains(name))?
        };
        (template.columns, template.has_row) = (columns, has_row);
        Ok(template)
    }

    /// The columns that it reads, sorted.
    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Makes it ready for many rows.
    pub(super) fn prepare(&self) -> Result<Renderer<'_>, String> {
        Ok(Renderer { template: self, instructions: exact(&self.instructions()?, &self.source)? })
    }

    fn instructions(&self) -> Result<Instructions<'_>, String> {
        let tree = parse(&self.source, "field", SyntaxConfig::default()).map_err(|error| explain(&error))?;
        let mut generator = CodeGenerator::new("field", &self.source);
        generator.compile_stmt(&tree);
        Ok(generator.finish().0)
    }

    /// Looks for filters, tests and functions that there are not.
    fn check_names(&self, instructions: &Instructions<'_>, free: &BTreeSet<&str>) -> Result<(), String> {
        let mut state = self.environment.empty_state();
        for (place, instruction) in each(instructions) {
            let line =
                instructions.get_line(place).map(|line| format!(" in line {line} of the template")).unwrap_or_default();
            match instruction {
                Instruction::ApplyFilter(name, ..) => {
                    let tried = state.apply_filter(name, &[Value::from("")]);
                    if tried.is_err_and(|error| error.kind() == ErrorKind::UnknownFilter) {
                        let hint = did_you_mean(name, FILTERS.iter().copied());
                        return Err(format!("There is no filter `{name}`{line}.{hint}"));
                    }
                }
                Instruction::PerformTest(name, ..) => {
                    let tried = state.perform_test(name, &[Value::from("")]);
                    if tried.is_err_and(|error| error.kind() == ErrorKind::UnknownTest) {
                        return Err(format!("There is no test `{name}`{line}."));
                    }
                }
                Instruction::CallFunction(name, _)
                    if free.contains(name) && !self.environment.globals().any(|(global, _)| global == *name) =>
                {
                    return Err(format!("There is no function `{name}`{line}; a filter is written `value | {name}`."));
                }
                Instruction::CallMethod(name, _) if !LOOP_METHODS.contains(name) => {
                    return Err(format!("There is no method `{name}`{line}; a filter is written `value | {name}`."));
                }
                Instruction::CompareAndPreserve(_) => {
                    return Err(format!("Write `a < b and b < c` instead of `a < b < c`{line}."));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn each<'a, 's>(instructions: &'a Instructions<'s>) -> impl Iterator<Item = (u32, &'a Instruction<'s>)> {
    (0..).map_while(|place| instructions.get(place).map(|instruction| (place, instruction)))
}

/// The columns that a template reads, sorted, and whether it reads some by `row`.
fn reads(instructions: &Instructions<'_>, is_free: impl Fn(&str) -> bool) -> Result<(Vec<String>, bool), String> {
    let mut columns = BTreeSet::new();
    let (mut has_row, mut is_column) = (false, false);
    for (place, instruction) in each(instructions) {
        let Instruction::Lookup(name) = instruction else { continue };
        if !is_free(name) {
            continue;
        }
        if *name != ROW {
            columns.insert((*name).to_owned());
            continue;
        }
        match (instructions.get(place + 1), instructions.get(place + 2)) {
            (Some(Instruction::GetAttr(column)), _) => _ = columns.insert((*column).to_owned()),
            (Some(Instruction::LoadConst(column)), Some(Instruction::GetItem)) if column.as_str().is_some() => {
                columns.insert(column.as_str().unwrap_or_default().to_owned());
            }
            _ => {
                is_column = true;
                continue;
            }
        }
        has_row = true;
    }
    match (has_row, is_column) {
        (true, true) => {
            Err("Write `row[\"…\"]` with a column's name, or `row[\"row\"]` for a column called row.".to_owned())
        }
        (_, true) => {
            columns.insert(ROW.to_owned());
            Ok((columns.into_iter().collect(), false))
        }
        _ => Ok((columns.into_iter().collect(), has_row)),
    }
}

/// The same instructions with calls in place of the engine's own operators, filters and tests.
fn exact<'s>(instructions: &Instructions<'s>, source: &'s str) -> Result<Instructions<'s>, String> {
    let mut places = Vec::new();
    let mut out = Vec::new();
    for (place, instruction) in each(instructions) {
        places.push(out.len() as u32);
        let line = instructions.get_line(place).unwrap_or_default() as u16;
        let call = |name, count| Instruction::CallFunction(name, Some(count));
        // A filter's or test's name goes behind its arguments.
        let named =
            |operator, name: &str, count: u16| [Instruction::LoadConst(Value::from(name)), call(operator, count + 1)];
        if let Some(number) = literal::shown(instructions, place)? {
            out.pop();
            out.push((Instruction::LoadConst(number), line));
            continue;
        }
        match instruction {
            Instruction::ApplyFilter(name, Some(count), _) => {
                out.extend(named("|", name, *count).map(|new| (new, line)));
            }
            Instruction::PerformTest(name, Some(count), _) => {
                out.extend(named("is", name, *count).map(|new| (new, line)));
            }
            Instruction::GetAttr(name) => {
                let operator = if is_used_at_once(instructions, place) { MEMBER } else { "." };
                out.extend(named(operator, name, 1).map(|new| (new, line)));
            }
            Instruction::GetItem if is_used_at_once(instructions, place) => {
                out.extend([(Instruction::GetItem, line), (call(ITEM, 1), line)]);
            }
            other => out.push((
                operator(other).map_or_else(|| other.clone(), |name| call(name, if name == "neg" { 1 } else { 2 })),
                line,
            )),
        }
    }
    places.push(out.len() as u32);
    let mut exact = Instructions::new("field", source);
    for (mut instruction, line) in out {
        if let Instruction::Iterate(target)
        | Instruction::Jump(target)
        | Instruction::JumpIfFalse(target)
        | Instruction::JumpIfFalseOrPop(target)
        | Instruction::JumpIfTrueOrPop(target) = &mut instruction
        {
            *target = *places.get(*target as usize).ok_or("the template jumps out of itself")?;
        }
        exact.add_with_line(instruction, line);
    }
    Ok(exact)
}

/// Whether what an instruction finds is printed, walked or tested next, and so must be there: nothing gives it a default.
fn is_used_at_once(instructions: &Instructions<'_>, place: u32) -> bool {
    let mut next = instructions.get(place + 1);
    // `a.b if c else d` jumps to what uses either.
    if let Some(Instruction::Jump(target)) = next {
        next = instructions.get(*target);
    }
    matches!(
        next,
        Some(
            Instruction::Emit
                | Instruction::Not
                | Instruction::PushLoop(_)
                | Instruction::JumpIfFalse(_)
                | Instruction::JumpIfFalseOrPop(_)
                | Instruction::JumpIfTrueOrPop(_)
        )
    )
}

/// The operator that is called in place of an instruction.
const fn operator(instruction: &Instruction<'_>) -> Option<&'static str> {
    Some(match instruction {
        Instruction::Add => "+",
        Instruction::Sub => "-",
        Instruction::Mul => "*",
        Instruction::Div => "/",
        Instruction::IntDiv => "//",
        Instruction::Rem => "%",
        Instruction::Pow => "**",
        Instruction::Neg => "neg",
        Instruction::StringConcat => "~",
        Instruction::Eq => "==",
        Instruction::Ne => "!=",
        Instruction::Lt => "<",
        Instruction::Lte => "<=",
        Instruction::Gt => ">",
        Instruction::Gte => ">=",
        Instruction::In => "in",
        _ => return None,
    })
}

/// A template ready for many rows.
pub(super) struct Renderer<'t> {
    template: &'t Template,
    instructions: Instructions<'t>,
}

impl Renderer<'_> {
    /// Renders a row; `cells` are the values of [`Template::columns`]. Null if a null was printed, and else nothing but
    /// blanks. The error never holds a value.
    pub(super) fn render<'a>(&self, cells: impl Iterator<Item = Cell<'a>>) -> Result<Option<String>, String> {
        let mut row = BTreeMap::new();
        for (name, cell) in self.template.columns.iter().zip(cells) {
            row.insert(name.clone(), value::value(cell)?);
        }
        if self.template.has_row {
            row.insert(ROW.to_owned(), Value::from_pairs(row.clone()));
        }
        let (mut text, blocks) = (String::new(), BTreeMap::new());
        let mut out = make_string_output(&mut text);
        let environment = &self.template.environment;
        let ended = eval(environment, &self.instructions, Value::from_pairs(row), &blocks, &mut out, AutoEscape::None);
        let has_null = match ended {
            Ok((_, state)) => state.get_temp(NULL).is_some(),
            Err(error) => return Err(reason(&error)),
        };
        Ok(if has_null && text.trim().is_empty() { None } else { Some(text) })
    }
}

/// Why a row cannot be rendered, without a value.
fn reason(error: &minijinja::Error) -> String {
    match (calls::failure(error), error.kind()) {
        (Some(failure), _) => failure.to_string(),
        (None, ErrorKind::UndefinedError) => UNDEFINED.to_owned(),
        (None, kind) => kind.to_string(),
    }
}

fn explain(error: &minijinja::Error) -> String {
    let place = error.line().map(|line| format!(" in line {line} of the template")).unwrap_or_default();
    format!("{}{place}: {}", error.kind(), error.detail().unwrap_or_default())
}

fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    if value.is_none() {
        state.set_temp(NULL, Value::from(true));
        return Ok(());
    }
    out.write_str(&value::text(value)?).map_err(minijinja::Error::from)
}

/// `bytes` as lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests;

use super::*;

fn text(values: &[Option<&str>]) -> Column {
    let mut column = Column::new(Kind::Text);
    values.iter().for_each(|value| column.push(value.map_or(Cell::Null, Cell::Text)));
    column
}

fn columns() -> Vec<SourceColumn> {
    ["email", "age"].map(|name| SourceColumn { name: name.to_owned(), kind: Kind::Text }).to_vec()
}

fn mapping(rules: &str) -> Result<Mapping, serde_json::Error> {
    serde_json::from_str(rules)
}

#[test]
fn identity_comes_first_and_bad_rows_are_named_without_their_value() -> Result<(), Box<dyn std::error::Error>> {
    let rules = mapping(
        r#"{"age": {"column": "age", "type": "int"}, "email": "email", "both": {"template": "{{ email }}/{{ age }}"}}"#,
    )?;
    let mapper = Mapper::new(&rules, &["email"], &columns()).map_err(|problems| format!("{problems:?}"))?;
    let input = [text(&[Some("a@x"), Some("b@x"), None]), text(&[Some("7"), Some("secret"), None])];
    let (table, invalid) = mapper.apply(&input, 0..3);
    assert_eq!(table.fields.iter().map(|field| field.path.as_str()).collect::<Vec<_>>(), ["email", "age", "both"]);
    assert_eq!(table.fields[1].column.cell(0), Cell::Int(7));
    assert_eq!(table.fields[2].column.cell(0), Cell::Text("a@x/7"));
    let messages: Vec<_> = invalid.iter().map(|invalid| (invalid.row, invalid.message.as_str())).collect();
    assert_eq!(
        messages,
        [
            (1, "Field \"age\": the text is not a number"),
            (2, "Field \"email\": the value that addresses the record is null"),
        ]
    );
    Ok(())
}

#[test]
fn an_unknown_column_is_told_with_the_nearest_name() -> Result<(), Box<dyn std::error::Error>> {
    let rules = mapping(r#"{"email": "emial"}"#)?;
    let problems = Mapper::new(&rules, &["email"], &columns()).err().unwrap_or_default();
    assert_eq!(problems[0].reason, "The model has no column \"emial\". Did you mean \"email\"?");
    assert_eq!(Mapper::columns(&rules), ["emial"]);
    Ok(())
}

fn one(kind: Kind, rule: &str, values: &[Cell<'_>]) -> Result<(Table, Vec<Invalid>), Box<dyn std::error::Error>> {
    let columns = [SourceColumn { name: "v".to_owned(), kind }];
    let rules = mapping(rule)?;
    let identity: Vec<&str> = rules.keys().filter(|name| *name == "id").map(String::as_str).collect();
    let mapper = Mapper::new(&rules, &identity, &columns).map_err(|problems| format!("{problems:?}"))?;
    let mut column = Column::new(kind);
    values.iter().for_each(|value| column.push(*value));
    Ok(mapper.apply(&[column], 0..values.len()))
}

#[test]
fn json_scalars_are_sent_as_they_are_and_what_is_not_json_is_refused() -> Result<(), Box<dyn std::error::Error>> {
    let values = [r#""a""#, "1.50", "null", "{ \"a\":\n1}", "x", "1,\"b\":2"].map(Cell::Json);
    let (table, invalid) = one(Kind::Json, r#"{"f": "v"}"#, &values)?;
    let cells: Vec<_> = (0..4).map(|row| table.fields[0].column.cell(row)).collect();
    assert_eq!(cells, [Cell::Json(r#""a""#), Cell::Json("1.50"), Cell::Null, Cell::Json(r#"{"a":1}"#)]);
    assert_eq!(invalid.iter().map(|invalid| invalid.row).collect::<Vec<_>>(), [4, 5]);
    let (table, invalid) =
        one(Kind::Json, r#"{"f": {"column": "v", "type": "int"}}"#, &[Cell::Json("\"7\""), Cell::Json("7.0")])?;
    assert_eq!((table.fields[0].column.cell(0), table.fields[0].column.cell(1)), (Cell::Int(7), Cell::Int(7)));
    assert!(invalid.is_empty());
    let (table, invalid) = one(Kind::Json, r#"{"f": {"array": ["v", "v"]}}"#, &[Cell::Json("{\n}"), Cell::Json("x")])?;
    assert_eq!((table.fields[0].column.cell(0), invalid.len()), (Cell::Json("[{},{}]"), 1));
    Ok(())
}

#[test]
fn record_is_addressed_by_a_value_and_nothing_else() -> Result<(), Box<dyn std::error::Error>> {
    let values = ["\"\"", "null", "[1]", "{}", "\"a\"", "0"].map(Cell::Json);
    let (table, invalid) = one(Kind::Json, r#"{"id": "v"}"#, &values)?;
    assert_eq!(invalid.iter().map(|invalid| invalid.row).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(table.identity_text(4), "a");
    let (_, invalid) = one(Kind::Text, r#"{"id": "v"}"#, &[Cell::Text(""), Cell::Text("a")])?;
    assert_eq!(invalid[0].message, "Field \"id\": the value that addresses the record is empty");
    let (_, invalid) = one(Kind::Text, r#"{"id": {"column": "v", "normalize": "email"}}"#, &[Cell::Text(" ")])?;
    assert_eq!(invalid.len(), 1);
    Ok(())
}

#[test]
fn values_without_a_form_on_the_wire_are_refused() -> Result<(), Box<dyn std::error::Error>> {
    let refused = |kind, cell| one(kind, r#"{"f": "v"}"#, &[cell]).map(|(_, invalid)| invalid.len());
    assert_eq!(refused(Kind::Decimal, Cell::Decimal("NaN"))?, 1);
    assert_eq!(refused(Kind::Float, Cell::Float(f64::INFINITY))?, 1);
    assert_eq!(refused(Kind::Date, Cell::Date(-800_000))?, 1);
    assert_eq!(refused(Kind::Time, Cell::Time(crate::cell::DAY))?, 1);
    assert_eq!(refused(Kind::Decimal, Cell::Decimal("+5"))?, 0);
    Ok(())
}

#[test]
fn pair_that_makes_no_sense_is_refused_before_a_row() -> Result<(), Box<dyn std::error::Error>> {
    let columns = [SourceColumn { name: "v".to_owned(), kind: Kind::Bytes }];
    let rules = mapping(
        r#"{"f": {"column": "v", "type": "date"}, "g": {"column": "v", "zone": "Europe/Vienna"},
            "h": {"constant": "2026-01-02", "type": "timestamp_tz", "zone": "Wien"},
            "i": {"constant": "7", "type": "int", "zone": "Europe/Vienna"}}"#,
    )?;
    let problems = Mapper::new(&rules, &[], &columns).err().unwrap_or_default();
    assert_eq!((problems[0].key, problems[0].reason.as_str()), (Some("type"), "A bytes value cannot become a date."));
    let wrong: Vec<_> = problems.iter().skip(1).map(|problem| (problem.field.as_str(), problem.key)).collect();
    assert_eq!(wrong, [("g", Some("zone")), ("h", Some("zone")), ("i", Some("zone"))]);
    Ok(())
}

#[test]
fn a_record_beyond_the_cap_is_refused_and_the_others_are_whole() -> Result<(), Box<dyn std::error::Error>> {
    let rule = r#"{"a": "v", "b": "v", "c": "v"}"#;
    let (below, above) = ("x".repeat(RECORD_CAP / 3 - 1024), "x".repeat(RECORD_CAP / 2 + 1));
    let (table, invalid) = one(Kind::Text, rule, &[Cell::Text(&below), Cell::Text(&above), Cell::Text("y")])?;
    assert_eq!(invalid.iter().map(|invalid| invalid.row).collect::<Vec<_>>(), [1]);
    assert_eq!(invalid[0].message, "Field \"b\": with it, the record has more than 128 MiB");
    assert!(table.fields.len() == 3 && table.fields[2].column.cell(2) == Cell::Text("y"));
    let (table, invalid) = one(Kind::Text, rule, &[Cell::Text(&above)])?;
    assert_eq!((table.fields.len(), invalid.len()), (2, 1), "nothing is made of what is not sent");
    Ok(())
}

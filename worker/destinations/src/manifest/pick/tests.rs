use super::*;

fn picked(json: &str, pointer: &str) -> Vec<String> {
    pick(json, &Wanted::of([(0, pointer)]), 1).unwrap().remove(0)
}

#[test]
fn picks_texts_numbers_and_lists_and_skips_the_rest() {
    let wanted = Wanted::of([(0, "/context/id"), (1, "/code"), (2, "/code")]);
    let found = pick(r#"{"x":{"y":[1,{}]},"context":{"id":["a","b"],"z":1},"code":7}"#, &wanted, 3).unwrap();
    assert_eq!(found, [vec!["a".to_owned(), "b".to_owned()], vec!["7".to_owned()], vec!["7".to_owned()]]);
}

#[test]
fn a_number_is_a_position_and_a_name_is_looked_for_in_each_element() {
    let json = r#"[{"code":"A","in":[[{"x":1}]]},{"code":"B","0":"zero"}]"#;
    assert_eq!(picked(json, "/0/code"), ["A"]);
    assert_eq!(picked(json, "/1/code"), ["B"]);
    assert_eq!(picked(json, "/2/code"), Vec::<String>::new());
    assert_eq!(picked(json, "/code"), ["A", "B"]);
    assert_eq!(picked(json, "/1/0"), ["zero"]);
    assert_eq!(picked(json, "/0/in/0/0/x"), ["1"]);
    assert_eq!(picked(r#"{"a/b":{"~":"x"}}"#, "/a~1b/~0"), ["x"]);
}

#[test]
fn digits_are_kept_and_depth_costs_no_stack() {
    assert_eq!(picked(r#"{"id":123456789012345678901234567890}"#, "/id"), ["123456789012345678901234567890"]);
    let deep = format!("{{\"a\":{}{},\"id\":1e999}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(picked(&deep, "/id"), ["1e999"]);
    assert_eq!(picked(&deep, "/a"), Vec::<String>::new());
    assert_eq!(picked(&deep, "/a/b"), Vec::<String>::new());
}

#[test]
fn walks_lists_objects_and_what_is_neither() {
    let wanted = Wanted::of([(0, "/id")]);
    for (json, pointer, members, expected) in [
        (r#"[{"id":1},{"id":"2"}]"#, "", false, Some("1 2")),
        (r#"{"a":{"b":[{"id":1},{"id":"2"}]},"c":[3]}"#, "/a/b", false, Some("1 2")),
        (r#"{"a":{"x":{"id":1},"y":{}}}"#, "/a", true, Some("x=1 y=")),
        (r#"{"a":{"x":{"id":1}}}"#, "/a", false, None),
        (r#"{"a":[{"id":1}]}"#, "/a", true, None),
        (r#"{"a":"boom"}"#, "/a", false, None),
        (r#"{"a":true}"#, "/a", false, None),
        (r#"{"a":null}"#, "/a", false, Some("")),
        (r#"{"a":{ }}"#, "/a", false, Some("")),
        (r#"{"a":[]}"#, "/a", true, Some("")),
        (r#"{"b":1}"#, "/a", false, Some("")),
    ] {
        let mut told = Vec::new();
        let list = List { pointer, wanted: &wanted, slots: 1, members };
        let walked = walk(json, &[list], |_, element, found| {
            let name = element.name.map(|name| format!("{name}=")).unwrap_or_default();
            told.push(format!("{name}{}", found[0].join(",")));
        });
        assert_eq!(walked.unwrap().ok().map(|()| told.join(" ")).as_deref(), expected, "{json}");
    }
}

#[test]
fn what_is_there_is_told_from_what_is_empty() {
    for (json, present) in [
        (r#"{"a":1}"#, true),
        (r#"{"a":false}"#, true),
        (r#"{"a":{"b":1}}"#, true),
        (r#"{"a":[{}]}"#, false),
        (r#"{"a":null}"#, false),
        (r#"{"a":""}"#, false),
        (r#"{"a":[ ]}"#, false),
        (r"{}", false),
    ] {
        assert_eq!(is_present(json, "/a").unwrap(), present, "{json}");
    }
}

use super::*;

fn render(source: &str, row: &[(&str, Cell<'_>)]) -> Result<Option<String>, String> {
    let template = Template::compile(source)?;
    let find = |name: &String| {
        row.iter().find(|(column, _)| column == name).map_or(Cell::Text("no such column"), |(_, cell)| *cell)
    };
    template.prepare()?.render(template.columns().iter().map(find))
}

fn renders(source: &str, row: &[(&str, Cell<'_>)], want: &str) {
    assert_eq!(render(source, row), Ok(Some(want.to_owned())), "{source}");
}

const PRICE: (&str, Cell<'_>) = ("price", Cell::Decimal("1999.99"));

#[test]
fn reads_columns_and_writes_nothing_for_null() -> Result<(), String> {
    let template = Template::compile("{{ first | upper }} {{ last }}")?;
    assert_eq!(template.columns(), ["first", "last"]);
    renders("{{ first | upper }} {{ last }}", &[("first", Cell::Text("zoë")), ("last", Cell::Null)], "ZOË ");
    renders(
        "{{ email | sha256 }}",
        &[("email", Cell::Text("abc"))],
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    );
    Ok(())
}

#[test]
fn decimals_count_and_compare_exactly() {
    renders("{{ price * qty }}", &[PRICE, ("qty", Cell::Int(3))], "5999.97");
    renders("{% if price > 1000 %}gold{% else %}standard{% endif %}", &[("price", Cell::Decimal("3.00"))], "standard");
    renders("{% if disc %}yes{% else %}no{% endif %}", &[("disc", Cell::Decimal("0.00"))], "no");
    renders("{{ a + b }}", &[("a", Cell::Decimal("0.10")), ("b", Cell::Decimal("0.20"))], "0.30");
    renders(
        "{{ a + 1 }}",
        &[("a", Cell::Decimal("12345678901234567890123456789.5"))],
        "12345678901234567890123456790.5",
    );
    renders("{{ a * 1.5 }} {{ -a }} {{ a - 5 }}", &[("a", Cell::Decimal("2"))], "3 -2 -3");
    renders("{{ a / 3 }}", &[("a", Cell::Decimal("1"))], "0.3333333333333333333333333333333333");
    renders(
        "{{ a / 4 }} {{ 7 / 2 }} {{ 6 / 2 }}",
        &[("a", Cell::Int(9_007_199_254_740_993))],
        "2251799813685248.25 3.5 3",
    );
    renders("{{ a // 2 }} {{ a % 2 }} {{ a ** 2 }}", &[("a", Cell::Decimal("-7.5"))], "-4 0.5 56.25");
    renders(
        "{{ price | round }} {{ price | round(1) }} {{ 2.5 | round }} {{ price | int }}",
        &[PRICE],
        "2000 2000.0 3 1999",
    );
    renders("{{ price == 1999.990 }} {{ price in [1, 1999.99] }} {{ price is number }}", &[PRICE], "true true true");
    renders("{{ price }}", &[("price", Cell::Decimal("1.50"))], "1.50");
    renders("{{ price | replace('.', ',') }}", &[PRICE], "1999,99");
    renders(
        "{{ [1, price, 3] | sort | join(';') }} {{ [1, price] | max }} {{ [1, price] | sum }}",
        &[PRICE],
        "1;3;1999.99 1999.99 2000.99",
    );
    renders("{{ text | decimal * 2 }}", &[("text", Cell::Text(" 1.25 "))], "2.50");
    renders("{{ n | int }}", &[("n", Cell::Text("9007199254740993"))], "9007199254740993");
}

#[test]
fn numbers_written_in_a_template_are_exact() {
    renders("{{ 0.1 * 3 }} {{ 0.1 + 0.2 }} {{ 0.1 + 0.2 == 0.3 }} {{ -0.1 - 0.2 }}", &[], "0.3 0.3 true -0.3");
    renders(
        "{{ 1/3 }} {{ 2**0.5 if false else 2**62 }}",
        &[],
        "0.3333333333333333333333333333333333 4611686018427387904",
    );
    renders("{{ 9007199254740993 * 1.0 }} {{ 12345678901234567.89 }}", &[], "9007199254740993 12345678901234567.89");
    renders("{{ price * (1.1 * 1.1) }} {{ price + 12345678901234567.89 }}", &[PRICE], "2419.9879 12345678901236567.88");
    renders(
        "{{ 1_000.50 }} {{ 0x1F }} {{ 18446744073709551616 + 1 }} {{ 1e3 }}",
        &[],
        "1000.50 31 18446744073709551617 1000",
    );
    renders("{{ [10, 9.5, 2] | sort | join(' ') }} {{ {'a': 1.50} | tojson }}", &[], "2 9.5 10 {\"a\":1.50}");
    renders(
        "{{ 'abc'[1:] }} {{ [4, 5][1] }} {{ 6 is divisibleby 3 }} {{ 6 is eq 6.0 }} {{ 'a' if 3 else 0 }}",
        &[],
        "bc 5 true true a",
    );
    renders(
        "{% for n in range(3) %}{{ loop.index * 0.1 }} {% endfor %}{% raw %}{{ 0.1 }}{% endraw %}",
        &[],
        "0.1 0.2 0.3 {{ 0.1 }}",
    );
    renders("{% set n = 0.5 %}{{ n }}{{ '0.1' }}{{ (text and 7) | decimal }}", &[("text", Cell::Text("7"))], "0.50.17");
    let long = format!("{{{{ 1.{} }}}}", "1".repeat(1_000));
    assert!(render(&long, &[]).is_err_and(|reason| reason.contains("1000 digits")));
}

#[test]
fn a_slice_is_of_the_column() {
    let row = [("name", Cell::Text("Zoë Q")), ("ar", Cell::Json("[1,2,3]")), ("n", Cell::Int(3))];
    renders("{{ name[:n] }}|{{ name[-1] }}|{{ ar[1:] }}|{% set s = name[:1] %}{{ s }}", &row, "Zoë|Q|[2,3]|Z");
    renders(
        "{% for x in ar[::2] %}{{ x }}{{ loop.last }} {% endfor %}{{ range(2) | list }}",
        &row,
        "1false 3true [0,1]",
    );
    assert_eq!(Template::compile("{{ row['First Name'][:2] }}").unwrap().columns(), ["First Name"]);
}

#[test]
fn null_stays_null_through_filters_and_operators() {
    let null = ("z", Cell::Null);
    for source in [
        "{{ z }}",
        " {{ z }} {{ z }} ",
        "{{ z | upper }}",
        "{{ z | lower | sha256 }}",
        "{{ z | date }}",
        "{{ z | int }}",
        "{{ z | float }}",
        "{{ z ~ 'x' }}",
        "{{ 'x' ~ z }}",
        "{{ z | replace('a', 'b') }}",
        "{{ z + 1 }}",
        "{{ -z }}",
        "{{ z * 2 }}",
        "{{ z | round }}",
        "{{ z.a.b }}",
        "{{ z < 1 }}",
        "{{ z | trim | title }}",
        "{{ z | string }}",
        "{{ z | join(';') }}",
        "{{ z | length }}",
        "{{ z in [1] }}",
    ] {
        assert_eq!(render(source, &[null]), Ok(None), "{source}");
    }
    renders("{{ z | default('none') }}", &[null], "none");
    renders("{{ z | upper | default('none') }}", &[null], "none");
    renders("{% if z %}a{% else %}b{% endif %}{% if z > 1 %}c{% endif %}", &[null], "b");
    renders("{{ z is none }} {{ z == none }} {{ z | json }}", &[null], "true true null");
    renders("{{ ta | join(';') }}", &[("ta", Cell::Json(r#"["a",null,"c"]"#))], "a;c");
    renders("{% if z %}x{% endif %}", &[null], "");
}

#[test]
fn values_print_as_fields_send_them() {
    renders(
        "acc-{{ a }} {{ b }} {{ c }}",
        &[("a", Cell::Float(123.0)), ("b", Cell::Bool(true)), ("c", Cell::Bool(false))],
        "acc-123 true false",
    );
    renders(
        "{{ a }} {{ a | json }}",
        &[("a", Cell::Json(r#"{"b":1.10,"a":[1,"x",null,true]}"#))],
        r#"{"b":1.10,"a":[1,"x",null,true]} {"b":1.10,"a":[1,"x",null,true]}"#,
    );
    renders(
        "{{ j.price * 2 }} {{ j.n }}",
        &[("j", Cell::Json(r#"{"price":12345678901234567890.10,"n":9007199254740993}"#))],
        "24691357802469135780.20 9007199254740993",
    );
    renders("{{ j | upper }}", &[("j", Cell::Json("\"zo\\u00eb\""))], "ZOË");
    renders("{{ j.missing | default('x') }}", &[("j", Cell::Json("{}"))], "x");
    renders("{{ d }} {{ t | date }}", &[("d", Cell::Date(0)), ("t", Cell::TimestampTz(0))], "1970-01-01 1970-01-01");
}

#[test]
fn globals_loops_and_set_variables_are_not_columns() -> Result<(), String> {
    let source = "{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{{ loop.index }}{% endfor %}={{ ns.n }}";
    assert!(Template::compile(source)?.columns().is_empty());
    renders(source, &[], "123=3");
    renders(
        "{% for x in [1, 2] if x > a and x is not none %}{{ x }}{% else %}none{% endfor %}",
        &[("a", Cell::Int(1))],
        "2",
    );
    renders("{{ 'a' if a > 1 and not b else 'c' }}", &[("a", Cell::Int(2)), ("b", Cell::Bool(false))], "a");
    Ok(())
}

#[test]
fn columns_whose_names_are_no_words_are_read_by_row() -> Result<(), String> {
    let source = "{{ row[\"First Name\"] | upper }} {{ row['a.b'] }} {{ row.plain }}";
    assert_eq!(Template::compile(source)?.columns(), ["First Name", "a.b", "plain"]);
    renders(source, &[("First Name", Cell::Text("ada")), ("a.b", Cell::Int(1)), ("plain", Cell::Int(2))], "ADA 1 2");
    assert_eq!(Template::compile("{{ row }}")?.columns(), ["row"]);
    assert!(Template::compile("{{ row }}{{ row['a'] }}").is_err());
    Ok(())
}

#[test]
fn mistakes_are_found_before_a_row_and_named() {
    let wrong = |source: &str| Template::compile(source).err().unwrap_or_default();
    assert!(wrong("{{ first").contains("line 1"));
    assert_eq!(
        wrong("{{ a | uper }}"),
        "There is no filter `uper` in line 1 of the template. Did you mean `upper`?"
            .replace('`', "\"")
            .replacen('"', "`", 2)
    );
    assert!(wrong("\n{{ a is emty }}").contains("no test `emty` in line 2"));
    assert!(wrong("{{ upper(a) }}").contains("no function `upper`"));
    assert!(wrong("{{ debug() }}").contains("no function `debug`"));
    assert!(wrong("{{ a.foo() }}").contains("no method `foo`"));
    assert!(wrong("{{ 1 < a < 3 }}").contains("and"));
    assert!(wrong("{% include 'x' %}").contains("line 1"));
}

#[test]
fn errors_of_a_row_name_operation_and_kinds_but_no_value() {
    let secret = ("a", Cell::Text("secret"));
    let reason = |source: &str| render(source, &[secret]).err().unwrap_or_default();
    assert_eq!(reason("{{ a * 2 }}"), "`*` does not take text and int");
    assert_eq!(reason("{{ a > 2 }}"), "`>` does not compare text with int");
    assert_eq!(reason("{{ a | round }}"), "`round` does not take text");
    assert_eq!(reason("{{ 1 / 0 }}{{ a }}"), "`/` divides by zero");
    for source in [
        "{{ a.foo }}",
        "{% if a.foo %}x{% endif %}",
        "{% if not a.foo %}x{% endif %}",
        "{% for x in a.foo %}{{ x }}{% endfor %}",
        "{{ a.foo or 'x' }}",
        "{{ a.foo if a else 'x' }}",
        "{{ a.foo.b }}",
        "{{ a.foo ~ 'x' }}",
        "{{ a['foo'] }}",
        "{{ a['b' ~ a] }}",
    ] {
        let reason = reason(source);
        assert!(reason.contains("`| default` gives it"), "{source}: {reason}");
        assert!(!reason.contains("secret"), "{source}: {reason}");
    }
    assert_eq!(reason("{{ a.foo }}"), "`.foo` finds nothing in text; `| default` gives it a value");
    assert_eq!(reason("{{ a['foo'] }}"), "`[…]` finds nothing; `| default` gives it a value");
    let json = ("j", Cell::Json(r#"{"a":{"b":1}}"#));
    assert_eq!(
        render("{{ j.a.c }}", &[json]).err().unwrap_or_default(),
        "`.c` finds nothing in object; `| default` gives it a value"
    );
    renders(
        "{{ j.c | default(2) }}{{ j['c'] | default(3) }}{{ j.a.b }}{{ j['a']['b'] }}{{ j.c is defined }}{{ j.c.d if j.c is defined else 4 }}",
        &[json],
        "2311false4",
    );
    for source in [
        "{{ a | int }}",
        "{{ a | date }}",
        "{{ a.b }}",
        "{{ a | dictsort }}",
        "{{ a.b() }}",
        "{{ range(a) }}",
        "{{ a | tojson | int }}",
    ] {
        let reason = reason(source);
        assert!(!reason.is_empty() && !reason.contains("secret"), "{source}: {reason}");
    }
    assert!(render("{{ a + 1 }}", &[("a", Cell::Json("1e900"))]).is_ok());
    for far in ["1e99999", "1e-9223372036854775808", "[1.5e-9223372036854775808]"] {
        assert!(render("{{ a }}", &[("a", Cell::Json(far))]).is_err(), "{far}");
    }
    assert!(render("{{ a.b }}", &[("a", Cell::Json("{\"b\":1,\"b\":2}"))]).is_err());
    assert!(render("{{ a }}", &[("a", Cell::Json(&("[".repeat(200) + &"]".repeat(200))))]).is_err());
}

#[test]
fn endless_work_is_stopped() {
    for source in [
        "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for a in range(9999) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='xxxxxxxx') %}{% for a in range(9999) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=7) %}{% for a in range(9999) %}{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x }}",
    ] {
        assert!(render(source, &[]).is_err(), "{source}");
    }
}

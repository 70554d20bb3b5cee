//! The documents that come with the policy: examples, schema, tables.

use policy::{
    ClassCode, ClassPattern, Device, Fallback, Hop, Key, MAX_HOPS, MAX_NAME, MAX_RULES, Omitted,
    Place, Policy, Storm, Table, Takes, Trust, VERSION, Verdict, WholePages, defaults,
};
use serde_json::{Value, json};

const LAPTOP: &str = include_str!("../../docs/policy/laptop-thunderbolt.toml");
const SERVER: &str = include_str!("../../docs/policy/server-hotplug-nvme.toml");
const QEMU: &str = include_str!("../../docs/policy/qemu-demo.toml");
const README: &str = include_str!("../../docs/policy/README.md");
const SCHEMA: &str = include_str!("../../docs/policy/policy.schema.json");

fn policy(text: &str) -> Policy {
    Policy::parse(text.as_bytes())
        .unwrap_or_else(|error| panic!("{}", error.rendered("example", text.as_bytes())))
}

/// The verdict for a device of no particular kind below root bus `root_bus`.
fn verdict<'p>(policy: &'p Policy, root_bus: u8, hops: &[(u8, u8)]) -> Verdict<'p> {
    let hops: Vec<Hop> = hops
        .iter()
        .map(|(device, function)| Hop::new(*device, *function).expect("a hop"))
        .collect();
    policy.verdict(&Device {
        place: Place {
            segment: 0,
            root_bus,
            hops: &hops,
        },
        class: ClassCode::new(0xff, 0, 0),
        vendor: 0,
        device: 0,
    })
}

#[test]
fn no_example_has_anything_to_look_at_twice() {
    for text in [LAPTOP, SERVER, QEMU] {
        assert_eq!(policy(text).warnings().next(), None, "{text}");
    }
}

#[test]
fn on_the_laptop_a_dock_is_confined_and_the_system_disk_is_not() {
    let policy = policy(LAPTOP);
    assert_eq!(
        verdict(&policy, 0, &[(0x07, 0), (0, 0), (2, 0), (0, 0)]).trust,
        Trust::Untrusted
    );
    assert_eq!(
        verdict(&policy, 0, &[(0x1d, 0), (0, 0)]).trust,
        Trust::Trusted
    );
    assert_eq!(verdict(&policy, 0, &[(0x14, 3)]).fallback, Fallback::Page);
}

#[test]
fn on_the_server_a_disk_in_a_front_bay_is_confined_and_a_boot_disk_is_not() {
    let policy = policy(SERVER);
    let bay = verdict(&policy, 0x80, &[(1, 0), (0, 0), (7, 0), (0, 0)]);
    assert_eq!(
        (bay.trust, bay.whole_pages),
        (Trust::Untrusted, WholePages::Map)
    );
    assert_eq!(
        verdict(&policy, 0, &[(0x1b, 0), (0, 0)]).trust,
        Trust::Trusted
    );
    assert_eq!(
        verdict(&policy, 0x80, &[(3, 0), (0, 1)]).group,
        Some("network card")
    );
}

#[test]
fn in_the_demonstration_one_disk_is_trusted_and_one_is_not() {
    let policy = policy(QEMU);
    assert_eq!(verdict(&policy, 0, &[(3, 0)]).trust, Trust::Trusted);
    assert_eq!(verdict(&policy, 0, &[(4, 0)]).trust, Trust::Untrusted);
    assert_eq!(verdict(&policy, 0, &[(5, 0), (0, 0)]).pool.bytes(), 4 << 20);
}

#[test]
fn a_file_that_spells_every_default_out_means_the_same_as_one_that_does_not() {
    let spelt = |table| -> String {
        defaults()
            .iter()
            .filter(|key| key.table == table)
            .filter_map(|key| match key.default {
                Omitted::Value(value) => Some(format!("{} = {value}\n", key.name)),
                Omitted::Required | Omitted::Absent(_) => None,
            })
            .collect()
    };
    let there = "[[device]]\nmatch = { path = \"0000:00:01.0\" }\n";
    let explicit = policy(&format!(
        "version = 1\n{}{there}{}",
        spelt(Table::Top),
        spelt(Table::Device)
    ));
    let implicit = policy(&format!("version = 1\n{there}"));
    assert_eq!(explicit.to_string(), implicit.to_string());
    let storm: String = spelt(Table::Storm).trim_end().replace('\n', ", ");
    let member_by_member = policy(&format!("version = 1\n{there}storm = {{ {storm} }}\n"));
    assert_eq!(member_by_member, implicit);
}

#[test]
fn the_schema_has_exactly_the_keys_of_the_parser_with_their_meanings() {
    for table in [Table::Top, Table::Device, Table::Match, Table::Storm] {
        let properties = object(&schema_of(table), "properties");
        let theirs = properties
            .iter()
            // The rules themselves are a table to the parser and a property to the schema.
            .filter(|(name, _)| table != Table::Top || *name != "device")
            .map(|(name, property)| (name.clone(), property["description"].clone()));
        let mut theirs: Vec<_> = theirs.collect();
        let mut ours: Vec<_> = keys(table)
            .map(|key| (key.name.to_owned(), json!(key.meaning)))
            .collect();
        theirs.sort_by(|a, b| a.0.cmp(&b.0));
        ours.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(theirs, ours, "{table:?}");
    }
}

#[test]
fn the_schema_refuses_keys_it_does_not_list() {
    for table in [Table::Top, Table::Device, Table::Match, Table::Storm] {
        assert_eq!(
            schema_of(table)["additionalProperties"],
            json!(false),
            "{table:?}"
        );
    }
}

#[test]
fn the_schema_demands_what_the_parser_demands() {
    for table in [Table::Top, Table::Device, Table::Match, Table::Storm] {
        let demanded: Vec<_> = keys(table)
            .filter(|key| key.default == Omitted::Required)
            .map(|key| json!(key.name))
            .collect();
        let required = schema_of(table)["required"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        assert_eq!(required, demanded, "{table:?}");
    }
}

#[test]
fn the_schema_gives_the_defaults_of_the_parser() {
    for key in defaults() {
        let property = resolved(schema_of(key.table)["properties"][key.name].clone());
        let expected = match key.default {
            Omitted::Value(value) => {
                let table: toml::Table =
                    format!("it = {value}").parse().expect("a default in TOML");
                serde_json::to_value(&table["it"]).expect("a value in JSON")
            }
            Omitted::Required | Omitted::Absent(_) => Value::Null,
        };
        assert_eq!(property["default"], expected, "{}", key.name);
    }
}

#[test]
fn the_schema_takes_what_the_parser_takes() {
    for key in defaults() {
        let property = resolved(schema_of(key.table)["properties"][key.name].clone());
        let name = key.name;
        match key.takes {
            Takes::Version => assert_eq!(property["const"], json!(VERSION), "{name}"),
            Takes::Boolean => assert_eq!(property["type"], json!("boolean"), "{name}"),
            Takes::Word(words) => assert_eq!(property["enum"], json!(words), "{name}"),
            Takes::Text => assert_eq!(property["maxLength"], json!(MAX_NAME), "{name}"),
            Takes::Faults => assert_eq!(property["maximum"], json!(Storm::MAX_FAULTS), "{name}"),
            Takes::Id => assert_eq!(property["maximum"], json!(u16::MAX), "{name}"),
            Takes::Class => {
                let names: Vec<_> = ClassPattern::names().collect();
                assert_eq!(property["anyOf"][0]["enum"], json!(names), "{name}");
            }
            Takes::Path => {
                let pattern = property["pattern"].as_str().expect("a pattern");
                assert!(
                    pattern.ends_with(&format!("{{0,{}}}$", MAX_HOPS - 1)),
                    "{name}: {pattern}"
                );
            }
            Takes::Size => assert!(mentions(&property, ["KiB", "MiB", "GiB"]), "{name}"),
            Takes::Period => assert!(mentions(&property, ["ms", "s", "min"]), "{name}"),
            Takes::Table(_) => assert_eq!(property["type"], json!("object"), "{name}"),
        }
    }
    assert_eq!(
        schema_of(Table::Top)["properties"]["device"]["maxItems"],
        json!(MAX_RULES)
    );
}

#[test]
fn the_readme_names_every_key_and_every_class() {
    for key in defaults() {
        assert!(README.contains(&format!("`{}`", key.name)), "{}", key.name);
    }
    for class in ClassPattern::names() {
        let pattern = format!("| `{class}` | ");
        assert!(README.contains(&pattern), "{class}");
    }
}

fn keys(table: Table) -> impl Iterator<Item = &'static Key> {
    defaults().iter().filter(move |key| key.table == table)
}

fn schema() -> Value {
    serde_json::from_str(SCHEMA).expect("the schema is JSON")
}

fn schema_of(table: Table) -> Value {
    let schema = schema();
    match table {
        Table::Top => schema,
        Table::Device => schema["$defs"]["device"].clone(),
        Table::Match => schema["$defs"]["match"].clone(),
        Table::Storm => schema["$defs"]["storm"].clone(),
    }
}

/// `property`, with what it refers to in its place.
fn resolved(property: Value) -> Value {
    match property["$ref"].as_str() {
        Some(reference) => schema()
            .pointer(reference.trim_start_matches('#'))
            .expect("a reference into the schema")
            .clone(),
        None => property,
    }
}

fn object(value: &Value, name: &str) -> serde_json::Map<String, Value> {
    value[name].as_object().expect("an object").clone()
}

fn mentions(property: &Value, units: [&str; 3]) -> bool {
    let pattern = property["pattern"].as_str().expect("a pattern");
    pattern.ends_with(&format!("({})$", units.join("|")))
}

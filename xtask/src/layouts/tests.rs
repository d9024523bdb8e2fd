//! The comparison without any build, and the reader of debug information on what a compiler has just made.

use std::collections::HashMap;

use super::*;

/// A build that says what a table says, but for what was changed.
struct Said(HashMap<&'static str, u64>, u8, &'static Layout);

impl Facts for Said {
    fn fact(&self, fact: Fact) -> Option<u64> {
        let asked = |field: &&Field| {
            field.theirs.iter().any(|(from, to, known)| *known == fact && (*from..=*to).contains(&self.1))
        };
        let field = fields::all().find(asked)?;
        self.0.get(field.name).copied().or_else(|| (field.ours)(self.2))
    }
}

#[test]
fn a_table_agrees_with_itself_and_differs_where_it_was_changed() {
    for minor in 8..=15 {
        let layout = table(minor, false).expect("every version has a table");
        let (count, findings) = compare(&Said(HashMap::new(), minor, layout), minor, layout);
        assert!(count > 42, "3.{minor} has only {count} facts");
        assert_eq!(findings, []);
        let changed = HashMap::from([("threads.tstate_next", 808), ("objects.tp_name", 1)]);
        let expected = [("objects.tp_name", 24, 1), ("threads.tstate_next", 8, 808)];
        let expected = expected.map(|(field, table, build)| Finding { field, table, build });
        assert_eq!(compare(&Said(changed, minor, layout), minor, layout), (count, expected.to_vec()));
    }
}

#[test]
fn a_source_that_says_nothing_is_no_witness() {
    struct Silent;
    impl Facts for Silent {
        fn fact(&self, _: Fact) -> Option<u64> {
            None
        }
    }
    assert_eq!(compare(&Silent, 11, &layout::v3_11::LAYOUT), (0, Vec::new()));
}

#[test]
fn each_field_is_one_fact_of_a_version() {
    for field in fields::all() {
        for minor in 8..=15 {
            let facts = field.theirs.iter().filter(|(from, to, _)| (*from..=*to).contains(&minor)).count();
            assert!(facts <= 1, "{} is several facts of 3.{minor}", field.name);
        }
    }
}

#[test]
fn debug_information_tells_structures_bits_and_constants() {
    const TEXT: &str = "
        struct declared;
        typedef struct declared *pointer;
        typedef struct { char first; struct { long in; union { int left; int right; }; } nested; } outer;
        struct bits { long before; struct { unsigned two : 2; unsigned three : 3; unsigned one : 1; } state; };
        enum constants { SEVEN = 7, NEGATIVE = -1 };
        outer a; struct bits b; enum constants c; pointer d;
    ";
    let stem = std::env::temp_dir().join(format!("unshed-dwarf-{}", std::process::id()));
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        let (input, output) = (stem.with_extension("c"), stem.with_extension("so"));
        std::fs::write(&input, TEXT).expect("/tmp takes a file");
        let mut command = std::process::Command::new("gcc");
        command.args([version, "-shared", "-nostdlib", "-fPIC", "-o"]).arg(&output).arg(&input);
        run::output_of(&mut command).expect("gcc compiles it");
        let bytes = std::fs::read(&output).expect("gcc has made it");
        for path in [input, output] {
            std::fs::remove_file(path).expect("it is ours");
        }
        let data = dwarf::Data::of(&bytes).expect("it is an ELF file");
        let wanted = ["outer", "bits", "declared"].into_iter().collect();
        let types = dwarf::Types::of(&data, &wanted).expect("it has debug information");
        let asked = [
            (Fact::Size("outer"), Some(24)),
            (Fact::Offset("outer", "nested"), Some(8)),
            (Fact::Offset("outer", "nested.right"), Some(16)),
            (Fact::Offset("outer", "nested.wrong"), None),
            (Fact::Offset("bits", "state"), Some(8)),
            (Fact::Bit("bits", "state.three", "state"), Some(2)),
            (Fact::Bit("bits", "state.one", "state"), Some(5)),
            (Fact::Constant("SEVEN"), Some(7)),
            (Fact::Constant("NEGATIVE"), None),
            (Fact::Size("declared"), None),
        ];
        for (fact, expected) in asked {
            assert_eq!(types.fact(fact), expected, "{fact:?} with {version}");
        }
    }
}

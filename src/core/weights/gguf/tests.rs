use proptest::prelude::*;

use super::*;
use crate::core::weights::metadata::{MetaArray, MetaValue};
use crate::core::weights::testing::{GgufParts, string};
use crate::error::ErrorKind;

fn good() -> GgufParts {
    let no_arrays = [9u32.to_le_bytes().as_slice(), &0u64.to_le_bytes()].concat();
    GgufParts::default()
        .str("general.architecture", "llama")
        .u32("llama.block_count", 2)
        .f32("llama.eps", 1e-5)
        .pair("flag", 7, [1])
        .pair("small", 1, [0xff])
        .strs("tokens", &["a", "Ġb", ""])
        .pair("ints", 9, [5u32.to_le_bytes().to_vec(), 2u64.to_le_bytes().to_vec(), vec![255; 8]].concat())
        .pair("empty", 9, no_arrays)
        .tensor("a", &[32, 2], 2, &[1; 36])
        .tensor("b", &[3], 0, &[2; 12])
        .tensor("scalar", &[], 24, &[9])
}

fn refusal(bytes: &[u8]) -> String {
    let e = Gguf::parse(bytes, "m.gguf").unwrap_err();
    assert!(e.message().starts_with("m.gguf: "), "{e}");
    e.to_string()
}

#[test]
fn a_good_file_is_read() {
    let bytes = good().bytes();
    let gguf = Gguf::parse(&bytes, "m.gguf").unwrap();
    assert_eq!(gguf.version, 3);
    let shapes: Vec<_> = gguf.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    assert_eq!(shapes, [("a", &[2, 32][..]), ("b", &[3]), ("scalar", &[])]);
    assert_eq!(bytes[gguf.tensors[1].range.clone()], [2; 12]);
    let m = &gguf.metadata;
    assert_eq!(m.str("general.architecture").unwrap(), "llama");
    assert_eq!(m.usize("llama.block_count").unwrap(), 2);
    assert_eq!(m.f64("llama.eps").unwrap(), f64::from(1e-5f32));
    assert!(m.bool("flag").unwrap());
    assert_eq!(m.get("small"), Some(&MetaValue::Int(-1)));
    assert_eq!(m.strs("tokens").unwrap(), ["a", "Ġb", ""]);
    assert_eq!(m.ints("ints").unwrap(), [-1, -1]);
    assert_eq!(m.get("empty"), Some(&MetaValue::Array(MetaArray::Arrays(vec![]))));
    assert_eq!(m.opt_strs("none").unwrap(), None);
    assert!(Gguf::parse(&good().bytes_with(2, 3, 8), "m").is_ok());
}

#[test]
fn getters_name_the_key() {
    let gguf = Gguf::parse(&good().bytes(), "m.gguf").unwrap();
    let m = &gguf.metadata;
    for (e, part) in [
        (
            m.str("general.architectur").unwrap_err(),
            "`general.architectur` is missing (there is `general.architecture`)",
        ),
        (m.usize("flag").unwrap_err(), "`flag` should be a non-negative integer and is true"),
        (m.usize("small").unwrap_err(), "is -1"),
        (m.str("tokens").unwrap_err(), "is an array of strings of length 3"),
        (m.ints("tokens").unwrap_err(), "should be an array of integers"),
        (m.bool("llama.eps").unwrap_err(), "is the float"),
        (m.f64("general.architecture").unwrap_err(), "is the string \"llama\""),
    ] {
        assert_eq!(e.kind(), ErrorKind::Config);
        assert!(e.message().starts_with("m.gguf: metadata key") && e.message().contains(part), "{e} lacks {part:?}");
    }
}

#[test]
fn magic_and_version_are_checked() {
    assert!(refusal(b"").contains("the magic number needs 4 bytes"));
    assert!(refusal(b"PK\x03\x04 and more").contains("begins with \"PK\\\\x03\\\\x04\""));
    assert!(refusal(&good().bytes_with(1, 3, 8)).contains("version 1 is obsolete"));
    assert!(refusal(&good().bytes_with(99, 3, 8)).contains("version 99 is unknown"));
    let e = Gguf::parse(&good().bytes_with(3u32.swap_bytes(), 3, 8), "m.gguf").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.message().contains("big-endian"), "{e}");
}

#[test]
fn counts_are_not_believed() {
    assert!(refusal(&good().bytes_with(3, u64::MAX, 8)).contains("tensor count at offset 8 is 18446744073709551615"));
    assert!(refusal(&good().bytes_with(3, 3, 1 << 60)).contains("metadata count at offset 16"));
    // One too many of either: the next thing is read from bytes that are something else.
    assert!(Gguf::parse(&good().bytes_with(3, 3, 9), "m.gguf").is_err());
    assert!(Gguf::parse(&good().bytes_with(3, 4, 8), "m.gguf").is_err());
}

#[test]
fn metadata_lengths_and_types_are_checked() {
    let list = |kind: u32, n: u64| [kind.to_le_bytes().to_vec(), n.to_le_bytes().to_vec()].concat();
    let nested = [9u32.to_le_bytes().as_slice(), &1u64.to_le_bytes()].concat().repeat(64);
    for (kind, value, expected) in [
        (8, (1u64 << 40).to_le_bytes().to_vec(), "metadata key `k`: the length of its value"),
        (8, [2u64.to_le_bytes().as_slice(), &[0xff, 0xfe]].concat(), "is not UTF-8"),
        (13, vec![0; 8], "value type 13 at offset 33 does not exist"),
        (7, vec![2], "a boolean is 0 or 1, this byte is 2"),
        (9, list(4, 1 << 61), "the length of an array"),
        (9, list(8, 1 << 50), "the length of an array"),
        (9, list(77, 1), "array element type 77"),
        (9, [list(7, 2), vec![1, 3]].concat(), "this byte is 3"),
        (9, nested, "nest deeper than 4"),
    ] {
        let message = refusal(&GgufParts::default().pair("k", kind, value).bytes());
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
    assert!(refusal(&GgufParts::default().u32("k", 1).u32("k", 2).bytes()).contains("`k` occurs twice"));
    for bad in [0, 24, 33] {
        let message = refusal(&good().u32("general.alignment", bad).bytes());
        assert!(message.contains(&format!("power of two and is {bad}")), "{message}");
    }
    assert!(refusal(&good().str("general.alignment", "x").bytes()).contains("general.alignment"));
    let absurd = good().pair("general.alignment", 10, (1u64 << 63).to_le_bytes());
    assert!(Gguf::parse(&absurd.bytes(), "m.gguf").is_err());
}

#[test]
fn tensor_descriptions_are_checked() {
    let with = |change: fn(&mut (String, Vec<u64>, u32, u64))| {
        let mut parts = good();
        change(&mut parts.tensors[0]);
        refusal(&parts.bytes())
    };
    for (message, expected) in [
        (with(|t| t.1 = vec![1; 5]), "tensor `a` (0 of 3): 5 dimensions"),
        (with(|t| t.1 = vec![32, 0]), "a dimension of 0 elements"),
        (with(|t| t.1 = vec![33, 2]), "rows of 33 elements do not divide into Q4_0 blocks"),
        (with(|t| t.1 = vec![32, 1 << 62]), "`a`: shape"),
        (with(|t| t.1 = vec![1 << 40; 4]), "more elements than this machine"),
        (with(|t| t.1 = vec![32, 9999]), "tensor `a`: its 179982 bytes (Q4_0, shape [9999, 32])"),
        (with(|t| t.2 = 4), "element type 4 is not one"),
        (with(|t| t.2 = u32::MAX), "element type 4294967295"),
        (with(|t| t.3 = 1 << 40), "end behind the file"),
        (with(|t| t.3 = u64::MAX - 31), "end behind the file"),
        (with(|t| t.3 = 7), "offset 7 is not a multiple of the alignment 32"),
        (with(|t| t.1 = vec![32, 4]), "tensors `a` and `b` overlap"),
        (with(|t| t.0 = "b".into()), "tensor `b` occurs twice"),
    ] {
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = good().bytes();
    for n in 0..bytes.len() {
        assert!(Gguf::parse(&bytes[..n], "m.gguf").is_err(), "a file cut to {n} of {} bytes passed", bytes.len());
    }
}

#[test]
fn strings_of_a_name_are_bounded_too() {
    let mut bytes = GgufParts::default().bytes_with(3, 1, 0);
    bytes.truncate(24);
    bytes.extend(string("w"));
    bytes.extend([0; 32]);
    bytes[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refusal(&bytes).contains("the length of the name of tensor 0 of 1"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is changed in a good file: an error or ranges inside the file, never a panic.
    #[test]
    fn mutations_never_panic(changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..10), cut in 0usize..80) {
        let mut bytes = good().bytes();
        for (at, byte) in changes {
            let n = bytes.len();
            bytes[at % n] = byte;
        }
        bytes.truncate(bytes.len() - cut / 4);
        if let Ok(gguf) = Gguf::parse(&bytes, "m") {
            // What was read is no more than what was there to read.
            let elements = gguf.metadata.values().values().map(|v| match v {
                MetaValue::Array(a) => a.len(),
                _ => 1,
            });
            prop_assert!(elements.sum::<usize>() + gguf.tensors.len() <= bytes.len());
            for t in &gguf.tensors {
                prop_assert!(t.range.end <= bytes.len());
                prop_assert_eq!(t.kind.byte_len(&t.shape).unwrap(), t.range.len());
            }
        }
    }

    /// Eight bytes at once, where the header keeps its lengths and counts.
    #[test]
    fn absurd_numbers_never_panic(at in 4usize..600, number in prop::sample::select(vec![
        0, 1, u64::MAX, u64::MAX - 7, 1 << 63, 1 << 62, 1 << 32, u64::from(u32::MAX), (1 << 61) + 1,
    ])) {
        let mut bytes = good().bytes();
        let at = at.min(bytes.len() - 8);
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        let _ = Gguf::parse(&bytes, "m");
    }

    #[test]
    fn noise_never_panics(tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Gguf::parse(&[b"GGUF\x03\0\0\0".as_slice(), &tail].concat(), "m");
    }
}

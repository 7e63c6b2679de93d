use super::*;
use crate::core::weights::reader::Reader;
use crate::error::ErrorKind;

/// Made by make_ggml_vectors.py, which says what is in it.
const VECTORS: &[u8] = include_bytes!("../../../../tests/fixtures/weights/ggml_vectors.bin");

/// Type, blocks, expected numbers.
fn vectors() -> Vec<(GgmlType, Vec<u8>, Vec<f32>)> {
    let mut r = Reader::new(VECTORS);
    let mut all = Vec::new();
    while r.remaining() > 0 {
        let kind = GgmlType::from_id(r.u32("type").unwrap()).unwrap();
        let (bytes, n) = (r.u32("bytes").unwrap() as usize, r.u32("numbers").unwrap() as usize);
        let blocks = r.take(bytes, "blocks").unwrap().to_vec();
        let numbers = (0..n).map(|_| f32::from_le_bytes(r.array("number").unwrap())).collect();
        all.push((kind, blocks, numbers));
    }
    all
}

#[test]
fn every_type_agrees_to_the_bit_with_ggml() {
    let mut seen = vec![GgmlType::F32, GgmlType::F64];
    for (kind, blocks, expected) in vectors() {
        let mut found = vec![f32::NAN; expected.len()];
        dequantise(kind, &blocks, &mut found).unwrap();
        for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
            // 0.0 and -0.0 may differ where the factors come in another order.
            assert!(f == e, "{kind}, number {i}: {f:e} should be {e:e}");
        }
        seen.push(kind);
    }
    let missing: Vec<_> = READABLE.iter().filter(|k| !seen.contains(k)).collect();
    assert!(missing.is_empty(), "no vectors for {missing:?}");
}

#[test]
fn plain_floats_pass_through() {
    let mut out = [0.0; 2];
    dequantise(GgmlType::F32, &[1.5f32.to_le_bytes(), (-2.25f32).to_le_bytes()].concat(), &mut out).unwrap();
    assert_eq!(out, [1.5, -2.25]);
    dequantise(GgmlType::F64, &[1.5f64.to_le_bytes(), (-2.25f64).to_le_bytes()].concat(), &mut out).unwrap();
    assert_eq!(out, [1.5, -2.25]);
}

#[test]
fn wrong_lengths_and_unread_types_are_errors() {
    let mut out = [0.0; 32];
    assert_eq!(dequantise(GgmlType::Q4_0, &[0; 17], &mut out).unwrap_err().kind(), ErrorKind::Shape);
    assert_eq!(dequantise(GgmlType::Q4_0, &[0; 36], &mut out).unwrap_err().kind(), ErrorKind::Shape);
    let e = dequantise(GgmlType::IQ2_S, &[0; 82], &mut [0.0; 256]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.message().contains("IQ2_S") && e.message().contains("Q4_K"), "{e}");
}

#[test]
fn every_type_in_the_table_has_its_own_number() {
    for &kind in GgmlType::ALL {
        assert_eq!(GgmlType::from_id(kind.id()), Some(kind));
    }
    assert_eq!(GgmlType::from_id(4), None);
}

//! Arrays on the real backend.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::error::ErrorKind;

fn numbers(n: usize) -> Array {
    Array::from_slice(&(0..n).map(|i| i as f32).collect::<Vec<_>>(), &[n]).unwrap()
}

#[test]
fn data_needs_evaluation_and_then_is_the_buffer_itself() {
    let a = add(&numbers(4), &numbers(4)).unwrap();
    assert_eq!(a.data().unwrap_err().kind(), ErrorKind::NotEvaluated);
    a.eval().unwrap();
    assert_eq!(a.data().unwrap(), a.clone().data().unwrap());
    assert_eq!(a.to_vec::<f32>().unwrap(), [0.0, 2.0, 4.0, 6.0]);
}

#[test]
fn strided_values_come_out_in_row_major_order() {
    let a = reshape(&numbers(6), &[2, 3]).unwrap();
    let t = swap_axes(&a, 0, 1).unwrap();
    assert_eq!(t.to_vec::<f32>().unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    let s = slice(&a, &[0, 0], &[2, 3], &[1, 2]).unwrap();
    assert_eq!(s.to_vec::<f32>().unwrap(), [0.0, 2.0, 3.0, 5.0]);
}

#[test]
fn filled_buffers_hold_what_was_written() {
    let a = Array::filled(&[2, 3], Dtype::Int32, |out| {
        assert!(out.len() == 24 && out.iter().all(|b| *b == 0));
        for (i, four) in out.chunks_exact_mut(4).enumerate() {
            four.copy_from_slice(&(i as i32).to_le_bytes());
        }
    })
    .unwrap();
    assert_eq!(a.to_vec::<i32>().unwrap(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn errors_carry_mlx_words_and_a_kind() {
    let e = add(&numbers(2), &numbers(3)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Shape);
    assert!(e.message().contains("broadcast") && !e.message().contains(".cpp"), "{e}");
    let e = matmul(&numbers(2), &reshape(&numbers(9), &[3, 3]).unwrap()).unwrap_err();
    assert!(!e.message().is_empty());
}

#[test]
fn weak_numbers_keep_the_dtype() {
    for dtype in [Dtype::Float16, Dtype::Bfloat16, Dtype::Float32] {
        let a = cast(&numbers(3), dtype).unwrap();
        assert_eq!(mul(&a, &weak(0.1, &a).unwrap()).unwrap().dtype(), dtype);
        assert_eq!(clip(&a, Some(0.5), None).unwrap().dtype(), dtype);
    }
}

#[test]
fn an_owner_is_dropped_exactly_once() {
    struct Counted(Arc<AtomicUsize>, #[allow(dead_code)] Vec<f32>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let mut data = vec![1f32, 2.0, 3.0];
    let pointer = data.as_mut_ptr();
    let owner = Counted(drops.clone(), data);
    // SAFETY: the owner holds the vector.
    let a = unsafe { Array::from_owner(pointer.cast(), &[3], Dtype::Float32, Box::new(owner)) }.unwrap();
    assert_eq!(a.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0]);
    drop(a);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    // SAFETY: refused before the memory is looked at.
    let refused = unsafe {
        Array::from_owner(pointer.cast(), &[usize::MAX, 2], Dtype::Float32, Box::new(Counted(drops.clone(), vec![])))
    };
    assert!(refused.is_err());
    assert_eq!(drops.load(Ordering::SeqCst), 2);
}

#[test]
fn dlpack_out_shares_the_buffer_and_gives_it_back() {
    let a = numbers(5);
    a.eval().unwrap();
    let tensor = to_dlpack(&a).unwrap();
    // SAFETY: a fresh tensor of ours.
    unsafe {
        assert_eq!((*tensor).dl_tensor.data.cast_const(), a.data().unwrap());
        assert_eq!((*tensor).flags & 1, 1);
        let back = from_dlpack(tensor).unwrap();
        assert_eq!(back.to_vec::<f32>().unwrap(), a.to_vec::<f32>().unwrap());
    }
}

#[test]
fn quantised_products_equal_products_of_the_unpacked_weight() {
    for (bits, group_size) in [(2, 32), (3, 64), (4, 64), (5, 32), (6, 128), (8, 32)] {
        let q = Quantization { group_size, bits, mode: "affine".into() };
        let w = random_normal(&[64, 128], Dtype::Float32, 1).unwrap();
        let x = random_normal(&[3, 128], Dtype::Float32, 2).unwrap();
        let parts = quantize(&w, &q).unwrap();
        let dense = dequantize(&parts[0], &parts[1], Some(&parts[2]), &q, Dtype::Float32).unwrap();
        let a = matmul(&x, &swap_axes(&dense, 0, 1).unwrap()).unwrap().to_vec::<f32>().unwrap();
        let b = quantized_matmul(&x, &parts[0], &parts[1], Some(&parts[2]), &q).unwrap().to_vec::<f32>().unwrap();
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4), "{bits} bits");
    }
}

#[test]
fn threads_share_arrays_and_graphs() {
    let a = numbers(1000);
    let shared = mul(&a, &a).unwrap();
    let sums: Vec<f64> = std::thread::scope(|scope| {
        let run = || sum_all(&add(&shared, &a).unwrap()).unwrap().item().unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(sums.iter().all(|s| *s == sums[0]), "{sums:?}");
}

#[test]
fn the_same_seed_gives_the_same_noise() {
    let draw = |seed| random_normal(&[16], Dtype::Float32, seed).unwrap().to_vec::<f32>().unwrap();
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3), draw(4));
}

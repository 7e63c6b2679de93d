//! The order of rows of queries, keys and values.
//!
//! The rotary embedding turns pairs of dimensions. Hugging Face pairs dimension i of a head with i + half; llama.cpp
//! pairs neighbours, and stores the rows of q and k so that its pairs are the same: 0, half, 1, half + 1, …

/// For each of `rows` rows in the model's order, the row of the file; none if `heads` do not divide them evenly.
pub fn row_permutation(rows: usize, heads: usize) -> Option<Vec<usize>> {
    if heads == 0 || rows == 0 || !rows.is_multiple_of(heads) || !(rows / heads).is_multiple_of(2) {
        return None;
    }
    let size = rows / heads;
    let half = size / 2;
    Some((0..rows).map(|row| row / size * size + row % half * 2 + row % size / half).collect())
}

/// For each row of a model whose heads have query, key and value side by side, the row of a file with all queries, then
/// all keys, then all values; none if `heads` do not divide them evenly.
pub fn apart_permutation(rows: usize, heads: usize) -> Option<Vec<usize>> {
    if heads == 0 || rows == 0 || !rows.is_multiple_of(3 * heads) {
        return None;
    }
    let size = rows / (3 * heads);
    Some((0..rows).map(|row| row / size % 3 * heads * size + row / (3 * size) * size + row % size).collect())
}

/// The bytes of a matrix with row `i` taken from row `order[i]`. Quantised rows are whole blocks and move as they are.
pub fn permute_rows(bytes: &[u8], order: &[usize]) -> Vec<u8> {
    let stride = bytes.len() / order.len().max(1);
    let mut out = Vec::with_capacity(bytes.len());
    for &from in order {
        out.extend_from_slice(&bytes[from * stride..(from + 1) * stride]);
    }
    out
}

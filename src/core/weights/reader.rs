//! A cursor over untrusted bytes: every read is bounds-checked, no length is believed before it fits the file.

use crate::error::{Result, bail};

/// Reads little-endian values from the front of a byte slice.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// How far the cursor has come, in bytes from the start.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// How many bytes are still ahead.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The next `n` bytes.
    pub(super) fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8]> {
        if n > self.remaining() {
            bail!(
                Corrupt,
                "{what} needs {n} bytes at offset {}, but the file ends after {} more (it has {} bytes)",
                self.position,
                self.remaining(),
                self.bytes.len()
            );
        }
        let start = self.position;
        self.position += n;
        Ok(&self.bytes[start..self.position])
    }

    /// The next `N` bytes by value.
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, what)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A 64-bit count of things that take at least `least` bytes each: refused when so many cannot follow, so
    /// that memory reserved for them is bounded by the size of the file.
    pub(super) fn count(&mut self, least: usize, what: &str) -> Result<usize> {
        let at = self.position;
        let claimed = self.u64(what)?;
        let possible = self.remaining() / least.max(1);
        match usize::try_from(claimed) {
            Ok(n) if n <= possible => Ok(n),
            _ => bail!(
                Corrupt,
                "{what} at offset {at} is {claimed}, but the {} bytes that follow have room for {possible} at most",
                self.remaining()
            ),
        }
    }

    /// A GGUF string: a 64-bit length and that many bytes of UTF-8.
    pub(super) fn string(&mut self, what: &str) -> Result<&'a str> {
        let at = self.position;
        let n = self.count(1, &format!("the length of {what}"))?;
        let bytes = self.take(n, what)?;
        match std::str::from_utf8(bytes) {
            Ok(s) => Ok(s),
            Err(e) => bail!(Corrupt, "{what} at offset {at} is not UTF-8 (its byte {} is wrong)", e.valid_up_to()),
        }
    }
}

//! Named arrays written as safetensors and read back, and files that are replaced whole or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Checkpoint, RawTensor, safetensors};
use crate::core::tensor::{Array, Dtype};
use crate::error::{Result, bail, err};

/// How the names of files end that are being written.
pub const UNFINISHED: &str = ".unfinished";

/// Arrays by name, and what a file says about them.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// By name.
    pub arrays: BTreeMap<String, Array>,
    /// The file's `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

/// Writes arrays, in the order given and in their own dtypes, and texts about them to a safetensors file. A file that is
/// there is replaced at the end, whole.
pub fn save(path: &Path, arrays: &[(String, Array)], metadata: &BTreeMap<String, String>) -> Result<()> {
    Array::eval_all(arrays.iter().map(|(_, a)| a))?;
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut end = 0;
    for (name, a) in arrays {
        let start = end;
        end += a.byte_size();
        let entry = json!({ "dtype": written(a.dtype()), "shape": a.dims(), "data_offsets": [start, end] });
        if header.insert(name.clone(), entry).is_some() {
            bail!(InvalidArgument, "two arrays are called '{name}'");
        }
    }
    let mut text = Value::Object(header).to_string();
    // The format wants the data to begin at a multiple of 8.
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    let bytes = arrays.iter().map(|(_, a)| a.to_bytes()).collect::<Result<Vec<_>>>()?;
    replace(path, |out| {
        out.write_all(&(text.len() as u64).to_le_bytes())?;
        out.write_all(text.as_bytes())?;
        bytes.iter().try_for_each(|b| out.write_all(b))
    })
}

/// Reads every array of a safetensors file, in its own dtype. Errors: a file that is no safetensors file, or is cut off;
/// a dtype that MLX does not have.
pub fn load(path: &Path) -> Result<Stored> {
    let metadata = safetensors::metadata(path)?;
    let file = Checkpoint::open_safetensors(path)?;
    let read = |(name, raw): (&String, &RawTensor)| {
        let dtype = raw.dtype();
        let Some(held) = dtype.held() else {
            bail!(Unsupported, "{}: tensor '{name}' has dtype {dtype}, which MLX does not have", path.display())
        };
        Ok((name.clone(), Array::from_bytes(raw.bytes(), raw.shape(), held)?))
    };
    Ok(Stored { arrays: file.tensors().iter().map(read).collect::<Result<_>>()?, metadata })
}

/// Writes a file under another name and gives it its own at the end, so that whoever looks finds the old one or the new
/// one, and after a crash of the machine too.
pub fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    let unfinished = beside(path);
    let work = || -> io::Result<()> {
        let mut out = BufWriter::new(File::create(&unfinished)?);
        write(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        // The new name is on disk once its folder is; where a folder cannot be opened for that, the system does it itself.
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Ok(folder) = File::open(folder) {
            let _ = folder.sync_all();
        }
        Ok(())
    };
    work().map_err(|e| {
        let _ = std::fs::remove_file(&unfinished);
        err!(Io, "cannot write `{}`: {e}", path.display())
    })
}

/// Where a file is written before it has its name.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(UNFINISHED);
    path.with_file_name(name)
}

fn written(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bool => "BOOL",
        Dtype::Uint8 => "U8",
        Dtype::Uint16 => "U16",
        Dtype::Uint32 => "U32",
        Dtype::Uint64 => "U64",
        Dtype::Int8 => "I8",
        Dtype::Int16 => "I16",
        Dtype::Int32 => "I32",
        Dtype::Int64 => "I64",
        Dtype::Float16 => "F16",
        Dtype::Bfloat16 => "BF16",
        Dtype::Float32 => "F32",
        Dtype::Float64 => "F64",
        Dtype::Complex64 => "C64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tensor;

    #[test]
    fn what_is_saved_is_read_by_another_parser_and_here() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let numbers = Array::from_slice(&[1.5f32, -2.0, 3.25, 0.0, 5.0, 6.0], &[2, 3]).unwrap();
        let turned = tensor::transpose(&numbers, &[1, 0]).unwrap();
        let half = tensor::cast(&numbers, Dtype::Bfloat16).unwrap();
        let ids = Array::from_slice(&[7u32], &[1]).unwrap();
        let arrays = [("b".to_owned(), turned), ("a".to_owned(), half), ("ids".to_owned(), ids)];
        let about = BTreeMap::from([("model".to_owned(), "m \"1\"".to_owned())]);
        save(&path, &arrays, &about).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing unfinished is left");

        let bytes = std::fs::read(&path).unwrap();
        let other = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(other.tensor("b").unwrap().shape(), [3, 2]);
        let b: Vec<u8> = [1.5f32, 0.0, -2.0, 5.0, 3.25, 6.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(other.tensor("b").unwrap().data(), b);

        let own = load(&path).unwrap();
        assert_eq!(own.metadata, about);
        assert_eq!(own.arrays["a"].dtype(), Dtype::Bfloat16);
        assert_eq!(own.arrays["a"].to_vec::<f32>().unwrap(), numbers.to_vec::<f32>().unwrap());
        assert_eq!(own.arrays["ids"].to_vec::<u32>().unwrap(), [7]);

        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(load(&path).unwrap_err().kind(), crate::ErrorKind::Corrupt);
        let twice = [arrays[0].clone(), arrays[0].clone()];
        assert!(save(&path, &twice, &about).unwrap_err().message().contains("two arrays"));
        assert!(save(&folder.path().join("no/such"), &arrays, &about).unwrap_err().message().contains("no/such"));
    }
}

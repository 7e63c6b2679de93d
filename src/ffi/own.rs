//! The caller's own models: a description, a config, and tensors in memory or in files.

use std::collections::BTreeMap;
use std::ffi::c_char;

use super::array::{array, mlxterp_array};
use super::door::{door, list, output, text};
use super::library::mlxterp_status;
use super::model::{mlxterp_model, mlxterp_model_options, options, teller};
use super::registry::give;
use crate::core::model::Model;
use crate::error::{Result, bail, err};

fn config(json: *const c_char) -> Result<serde_json::Value> {
    serde_json::from_str(text(json, "config")?).map_err(|e| err!(Config, "the config is not valid JSON: {e}"))
}

/// A model from a description (its text, or the name of a shipped one), a config (a JSON object), and `count` arrays under
/// the names that the description knows. Buffers and dtypes are used as they are: nothing is copied unless
/// `options->dtype` asks for another dtype. The model shares the arrays; the caller's handles stay the caller's. Of
/// `options` (may be NULL), dtype, keep_quantised and the opaque modules count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_from_weights(
    description: *const c_char,
    config: *const c_char,
    names: *const *const c_char,
    arrays: *const *const mlxterp_array,
    count: usize,
    options: *const mlxterp_model_options,
    out_model: *mut *mut mlxterp_model,
) -> mlxterp_status {
    door(|| {
        let out = output(out_model, std::ptr::null_mut(), "out_model")?;
        let description = text(description, "description")?;
        let config = self::config(config)?;
        let (_, read) = self::options(options)?;
        let mut weights = BTreeMap::new();
        let both = list(names, count, "names")?.iter().zip(list(arrays, count, "arrays")?);
        for (at, (name, value)) in both.enumerate() {
            let name = text(*name, "a name")?.to_owned();
            let value = array(*value).map_err(|e| e.context(format!("arrays[{at}], '{name}'")))?.clone();
            if weights.insert(name.clone(), value).is_some() {
                bail!(InvalidArgument, "two arrays are called '{name}'");
            }
        }
        *out = give(mlxterp_model(Model::from_weights(description, config, weights, &read)?));
        Ok(())
    })
}

/// The same with the tensors in files: `.safetensors` files, or directories of them, `count` of them together.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_model_from_files(
    description: *const c_char,
    config: *const c_char,
    paths: *const *const c_char,
    count: usize,
    options: *const mlxterp_model_options,
    out_model: *mut *mut mlxterp_model,
) -> mlxterp_status {
    door(|| {
        let out = output(out_model, std::ptr::null_mut(), "out_model")?;
        let description = text(description, "description")?;
        let config = self::config(config)?;
        let (given, read) = self::options(options)?;
        let paths = list(paths, count, "paths")?.iter().map(|p| text(*p, "a path")).collect::<Result<Vec<_>>>()?;
        let mut tell = teller(&given);
        *out = give(mlxterp_model(Model::from_files(description, config, &paths, &read, Some(&mut tell))?));
        Ok(())
    })
}

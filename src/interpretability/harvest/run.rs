//! The harvest itself: windows of rows run, sorted back, and written shard by shard.

use std::path::Path;

use super::index::{FORMAT, Index, IndexedSite};
use super::options::{HarvestOptions, Part};
use super::pieces::{Fingerprint, Piece, Pieces, Place};
use super::shard::Filling;
use crate::core::model::{Model, SiteId};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::TraceOptions;
use crate::core::weights::store;
use crate::error::{Result, bail, err};
use crate::utils::{Document, Progress, by_position, in_batches, tell};

/// Harvests the activations of sites over documents into a folder, which is made; a harvest that was begun there and not
/// finished is gone on with. `progress` is told documents; the total is not known.
///
/// Memory: the vectors of one shard and of one window, whatever the size of the data set. Errors: other options, another
/// model or other documents than the harvest was begun with; a site without positions; vectors that are not finite in
/// the dtype asked for; a shard that is not whole.
pub fn harvest(
    model: &Model,
    documents: impl Iterator<Item = Result<Document>>,
    part: Part,
    folder: impl AsRef<Path>,
    options: &HarvestOptions,
    trace: &TraceOptions,
    progress: &mut Progress<'_>,
) -> Result<Index> {
    let folder = folder.as_ref();
    let dtype = options.check(model)?;
    let sites = sites(model, &options.sites)?;
    if let Some((site, i)) = trace.interventions.iter().find(|(_, i)| i.names_rows()) {
        bail!(InvalidArgument, "'{site}': {i} names rows, but documents run in batches: choose positions instead");
    }
    let new = begin(model, options, trace, &sites)?;
    let mut index = match Index::read(folder)? {
        None => new,
        Some(old) => {
            continues(&old, &new, folder)?;
            old
        }
    };
    if index.complete {
        return Ok(index);
    }
    std::fs::create_dir_all(folder).map_err(|e| err!(Io, "cannot make the folder `{}`: {e}", folder.display()))?;
    sweep(folder)?;
    let place = Place {
        documents: index.documents,
        pieces: index.pieces,
        fingerprint: Fingerprint::parse(&index.fingerprint)
            .ok_or_else(|| err!(Corrupt, "{}: the fingerprint is none", folder.display()))?,
    };
    let mut pieces = Pieces::from(model, options, documents, part.start, place)?;
    let special = if options.skip_special { model.special_ids() } else { Default::default() };
    let mut filling = Filling::new(sites.len());
    loop {
        let mut window = Vec::new();
        while window.len() < options.batch_size * options.window
            && let Some(piece) = pieces.next()?
        {
            window.push(piece);
        }
        let done = window.is_empty();
        if !done {
            let kept = |t: &u32| !special.contains(t);
            run(model, &window, &sites, options.batch_size, dtype, trace, &kept, &mut filling, &mut index)?;
        }
        if filling.len() >= options.shard_vectors || (done && filling.len() > 0) {
            std::mem::replace(&mut filling, Filling::new(sites.len())).write(folder, &mut index, dtype)?;
            note(&mut index, &pieces.place());
            if !done {
                index.write(folder)?;
            }
        }
        if done {
            note(&mut index, &pieces.place());
            index.complete = part.last;
            index.write(folder)?;
            return Ok(index);
        }
        tell(progress, pieces.place().documents, 0)?;
    }
}

/// Takes away what a write that was cut short left behind.
fn sweep(folder: &Path) -> Result<()> {
    let failed = |e: std::io::Error| err!(Io, "cannot look into `{}`: {e}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if (name.starts_with("shard-") || name.starts_with("index.json")) && name.ends_with(store::UNFINISHED) {
            std::fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

fn note(index: &mut Index, place: &Place) {
    (index.documents, index.pieces) = (place.documents, place.pieces);
    index.fingerprint = place.fingerprint.text();
}

fn sites(model: &Model, patterns: &[String]) -> Result<Vec<SiteId>> {
    let mut all = Vec::new();
    for pattern in patterns {
        for site in model.sites().resolve_many(pattern)? {
            if !all.contains(&site) {
                all.push(site);
            }
        }
    }
    if all.is_empty() {
        bail!(InvalidArgument, "a harvest of no sites: name at least one, such as \"layers.*.output\"");
    }
    Ok(all)
}

/// An index with nothing in it; the widths are those of a run of one token, which computes nothing.
fn begin(model: &Model, options: &HarvestOptions, trace: &TraceOptions, sites: &[SiteId]) -> Result<Index> {
    let probe = model.trace(vec![0u32])?;
    let named = |site: &SiteId| {
        let name = model.sites().standard_name(*site).unwrap_or_else(|| model.sites().path(*site).to_owned());
        Ok(IndexedSite { name, width: by_position(&probe, *site)?.dim(2), norms: 0.0 })
    };
    Ok(Index {
        format: FORMAT.to_owned(),
        version: 1,
        model: model.short_name().to_owned(),
        options: options.clone(),
        interventions: trace.interventions.iter().map(|(site, i)| format!("{site}: {i}")).collect(),
        sites: sites.iter().map(named).collect::<Result<_>>()?,
        shards: Vec::new(),
        documents: 0,
        pieces: 0,
        vectors: 0,
        fingerprint: Fingerprint::default().text(),
        complete: false,
    })
}

/// Refuses to go on with something else.
fn continues(old: &Index, new: &Index, folder: &Path) -> Result<()> {
    let of = |index: &Index| {
        let sites: Vec<String> = index.sites.iter().map(|s| format!("{} of width {}", s.name, s.width)).collect();
        let options = serde_json::to_value(&index.options).unwrap_or_default();
        let mut all = vec![
            ("model".to_owned(), index.model.clone()),
            ("interventions".to_owned(), index.interventions.join(", ")),
            ("sites".to_owned(), sites.join(", ")),
        ];
        let options = options.as_object().cloned().unwrap_or_default();
        all.extend(options.into_iter().filter(|(key, _)| key != "sites").map(|(key, v)| (key, v.to_string())));
        all
    };
    match of(old).into_iter().zip(of(new)).find(|(a, b)| a != b) {
        None => Ok(()),
        Some(((name, was), (_, is))) => bail!(
            InvalidArgument,
            "{}: a harvest was begun there with {name} {was}, not {is}: give what it was begun with, or a new folder",
            folder.display()
        ),
    }
}

/// Runs a window and puts its vectors behind those of the shard, in the order of the data set.
#[allow(clippy::too_many_arguments)]
fn run(
    model: &Model,
    window: &[Piece],
    sites: &[SiteId],
    batch_size: usize,
    dtype: Dtype,
    options: &TraceOptions,
    kept: &dyn Fn(&u32) -> bool,
    filling: &mut Filling,
    index: &mut Index,
) -> Result<()> {
    let rows: Vec<Vec<u32>> = window.iter().map(|p| p.tokens.clone()).collect();
    let positions: Vec<Vec<usize>> =
        rows.iter().map(|row| (0..row.len()).filter(|p| kept(&row[*p])).collect()).collect();
    // `[row][site]`
    let mut bytes: Vec<Vec<Vec<u8>>> = vec![Vec::new(); rows.len()];
    for batch in in_batches(&rows, batch_size) {
        let trace = model.trace_with(batch.iter().map(|i| rows[*i].clone()).collect::<Vec<_>>(), options)?;
        let width = trace.batch()?.width();
        let places: Vec<i32> = batch
            .iter()
            .enumerate()
            .flat_map(|(k, i)| positions[*i].iter().map(move |p| (k * width + p) as i32))
            .collect();
        if places.is_empty() {
            continue;
        }
        let at = Array::from_slice(&places, &[places.len()])?;
        let mut taken = Vec::new();
        for site in sites {
            let value = by_position(&trace, *site)?;
            let flat = tensor::reshape(&value, &[-1, value.shape()[2]])?;
            let vectors = tensor::cast(&tensor::take(&flat, &at, 0)?, dtype)?;
            let norms = tensor::norm(&tensor::cast(&vectors, Dtype::Float32)?, -1, false)?;
            taken.push((vectors, norms));
        }
        Array::eval_all(taken.iter().flat_map(|(v, n)| [v, n]))?;
        for (s, (vectors, norms)) in taken.iter().enumerate() {
            let norms = norms.to_vec::<f32>()?;
            if let Some(bad) = norms.iter().position(|n| !n.is_finite()) {
                let place = batch.iter().flat_map(|i| positions[*i].iter().map(|p| (*i, *p))).nth(bad);
                let (row, p) = place.unwrap_or_default();
                return Err(not_finite(&index.sites[s].name, &window[row], p, dtype));
            }
            index.sites[s].norms += norms.iter().map(|n| f64::from(*n)).sum::<f64>();
            let all = vectors.to_bytes()?;
            let size = all.len() / places.len();
            let mut start = 0;
            for i in &batch {
                let stop = start + positions[*i].len() * size;
                bytes[*i].push(all[start..stop].to_vec());
                start = stop;
            }
        }
    }
    for (piece, (positions, bytes)) in window.iter().zip(positions.iter().zip(bytes)) {
        for (all, own) in filling.bytes.iter_mut().zip(bytes) {
            all.extend(own);
        }
        let document = u32::try_from(piece.document)
            .map_err(|_| err!(Unsupported, "document {}: a harvest has at most 2^32 documents", piece.document))?;
        filling.tokens.extend(positions.iter().map(|p| piece.tokens[*p]));
        filling.documents.extend(positions.iter().map(|_| document));
        filling.positions.extend(positions.iter().map(|p| (piece.first + p) as u32));
    }
    Ok(())
}

fn not_finite(site: &str, piece: &Piece, position: usize, dtype: Dtype) -> crate::error::Error {
    let hint = if dtype == Dtype::Float16 { ": float16 ends at 65504, bfloat16 does not" } else { "" };
    err!(
        InvalidArgument,
        "'{site}' holds infinities or NaN in document {} at position {}, kept as {dtype}{hint}",
        piece.document,
        piece.first + position
    )
}

//! (g), (h), (i) and (m): what writing to a name does.

use mlxterp::core::intervention::Intervention;
use mlxterp::core::tensor::{self as t, Array, Dtype};
use mlxterp::core::trace::TraceOptions;

use super::super::values;
use super::Contract;

/// Values of a layer that may be replaced at one position.
const BY_POSITION: [&str; 14] = [
    "attn.q",
    "attn.k",
    "attn.v",
    "attn.z",
    "attn.output",
    "attn_add",
    "mixer.output",
    "mlp.gate",
    "mlp.up",
    "mlp.pre",
    "mlp.act",
    "mlp.output",
    "output",
    "resid_mid",
];
/// Values that have heads and are made only when somebody asks.
const BY_HEAD: [&str; 3] = ["attn.scores", "attn.pattern", "attn.result"];

impl Contract<'_> {
    /// (g), (h), (i) and (m) on these layers, with the first row.
    pub fn writes(&mut self, layers: &[usize]) {
        let ids = self.rows[0].clone();
        let plain = match self.model.forward(ids.clone()) {
            Ok(plain) => plain,
            Err(e) => return self.fail("(m)", "the forward pass", e),
        };
        let written: mlxterp::Result<()> = (|| {
            for i in layers {
                self.sites_of(&format!("layers.{i}"), &ids, &plain)?;
                self.without_a_branch(&format!("layers.{i}"), &ids)?;
            }
            let empty = self.model.trace(ids.clone())?.output()?;
            self.same_bits(&empty, &plain, "(m)", "an empty trace");
            Ok(())
        })();
        if let Err(e) = written {
            self.fail("writing", "a site", e);
        }
    }

    /// (g) and (h)
    fn sites_of(&mut self, layer: &str, ids: &[u32], plain: &Array) -> mlxterp::Result<()> {
        let mut done = Vec::new();
        for (site, heads) in BY_POSITION.iter().map(|s| (s, false)).chain(BY_HEAD.iter().map(|s| (s, true))) {
            let name = format!("{layer}.{site}");
            // Two names of one value are one site.
            match self.model.sites().resolve(&name) {
                Ok(id) if !done.contains(&id) => done.push(id),
                _ => continue,
            }
            // (g) Writing what is there changes nothing.
            let trace = self.model.trace(ids.to_vec())?;
            let value = trace.get(&name)?;
            trace.set(&name, &value)?;
            match heads {
                false => self.same_bits(&trace.output()?, plain, "(g)", &name),
                // The explicit way around a fused kernel.
                true => self.close(&trace.output()?, plain, "(g)", &name),
            }
            // (h) Another value changes the logits, and none before its position.
            let position = ids.len() / 2;
            let other = if heads {
                Intervention::scale(0.5).heads([0])
            } else {
                Intervention::replace_with(t::random_normal(value.shape(), Dtype::Float32, 7)?)
                    .positions([position as i64])
            };
            let options = TraceOptions::default().with(&name, other);
            let (a, b) = (values(&self.model.trace_with(ids.to_vec(), &options)?.output()?), values(plain));
            self.expect(a != b, "(h)", &name, "changed nothing");
            let before = position * b.len() / ids.len();
            if !heads && self.causal() {
                self.expect(a[..before] == b[..before], "(h)", &name, "changed the past");
            }
        }
        Ok(())
    }

    /// (i) A branch that adds nothing is passed by.
    fn without_a_branch(&mut self, layer: &str, ids: &[u32]) -> mlxterp::Result<()> {
        let at = |name: &str| format!("{layer}.{name}");
        if !self.has(&at("resid_mid")) {
            return Ok(());
        }
        for (branches, before, after) in
            [(&["attn_add", "mixer_add"][..], "resid_pre", "resid_mid"), (&["mlp_add"][..], "resid_mid", "resid_post")]
        {
            let there: Vec<String> = branches.iter().map(|b| at(b)).filter(|b| self.has(b)).collect();
            if there.is_empty() {
                continue;
            }
            let zeroed = |o: TraceOptions, name: &String| o.with(name.as_str(), Intervention::zero_out());
            let trace = self.model.trace_with(ids.to_vec(), &there.iter().fold(TraceOptions::default(), zeroed))?;
            self.same_bits(&trace.get(&at(after))?, &trace.get(&at(before))?, "(i)", &at(after));
        }
        Ok(())
    }
}

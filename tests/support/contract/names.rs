//! (a) to (f): what the names of one trace have to do with each other.

use mlxterp::core::arch::tape::Op;
use mlxterp::core::tensor::{self as t, Array};
use mlxterp::core::trace::Trace;

use super::super::values;
use super::{Contract, ROUNDING};

impl Contract<'_> {
    /// (a) to (f) on every layer.
    pub fn names(&mut self) {
        let trace = match self.model.trace(self.rows.clone()) {
            Ok(trace) => trace,
            Err(e) => return self.fail("tracing", "the rows", e),
        };
        let layers = self.layer_names();
        for (i, layer) in layers.iter().enumerate() {
            self.residual_stream(&trace, layer, layers.get(i + 1));
            self.attention_values(&trace, layer);
            self.neurons(&trace, layer);
        }
        self.head(&trace, layers.last());
    }

    /// (a) and (b)
    fn residual_stream(&mut self, trace: &Trace, layer: &str, next: Option<&String>) {
        let at = |name: &str| format!("{layer}.{name}");
        let (Some(pre), Some(post)) = (self.find(trace, &at("input")), self.find(trace, &at("output"))) else {
            return self.fail("(a)", layer, "there is no such layer");
        };
        if let Some(input) = next.and_then(|n| self.find(trace, &format!("{n}.input"))) {
            self.same_bits(&input, &post, "(a)", layer);
        }
        for (name, value) in [("resid_pre", &pre), ("resid_post", &post)] {
            match self.find(trace, &at(name)) {
                Some(found) => self.same_bits(&found, value, "(a)", &at(name)),
                None => self.fail("(a)", &at(name), "there is no such site"),
            }
        }
        let mut added =
            |names: &[&str]| -> Vec<Array> { names.iter().filter_map(|n| self.find(trace, &at(n))).collect() };
        let (mixed, mlp) = (added(&["attn_add", "mixer_add"]), added(&["mlp_add"]));
        self.expect(!mixed.is_empty() || !mlp.is_empty(), "(b)", layer, "neither attn, mixer nor mlp");
        match self.find(trace, &at("resid_mid")) {
            Some(mid) => {
                self.is_sum(&mid, &pre, &mixed, &at("resid_mid"));
                self.is_sum(&post, &mid, &mlp, &at("resid_post"));
            }
            None => self.is_sum(&post, &pre, &[mixed, mlp].concat(), &at("resid_post")),
        }
    }

    fn is_sum(&mut self, whole: &Array, first: &Array, rest: &[Array], site: &str) {
        let sum = rest.iter().try_fold(first.clone(), |sum, part| t::add(&sum, part));
        match sum {
            // One addition has one result; of several the order is the description's own.
            Ok(sum) if rest.len() == 1 => self.same_bits(whole, &sum, "(b)", site),
            Ok(sum) => self.close(whole, &sum, "(b)", site),
            Err(e) => self.fail("(b)", site, e),
        }
    }

    /// (c) and (d)
    fn attention_values(&mut self, trace: &Trace, layer: &str) {
        let at = |name: &str| format!("{layer}.attn.{name}");
        let Some(kernel) = self.attention(layer) else {
            // A layer that attends says so by these names.
            let path = self.model.sites().resolve(&format!("{layer}.output")).map(|s| self.model.sites().path(s));
            let inside = path.map(|p| p.trim_end_matches("output").to_owned()).unwrap_or_default();
            let attends = |op: &Op| matches!(op, Op::Attend(_));
            let hidden = self.model.program().instrs.iter().any(|i| attends(&i.op) && i.path.starts_with(&inside));
            return self.expect(!hidden, "(c)", &at("z"), "the layer attends, but has no such site");
        };
        let mut get = |name: &str| self.find(trace, &at(name));
        let (Some(scores), Some(pattern), Some(z)) = (get("scores"), get("pattern"), get("z")) else {
            return self.fail("(c)", &at("pattern"), "there are no scores, pattern and z");
        };
        for name in ["q", "k"] {
            self.expect(self.has(&at(name)), "(c)", &at(name), "there is no such site");
        }
        match self.find(trace, &at("v")) {
            // Each query head with its own KV group.
            Some(v) => {
                let mixed = t::repeat(&v, (pattern.dim(1) / v.dim(1)).max(1), 1).and_then(|v| t::matmul(&pattern, &v));
                match mixed {
                    Ok(mixed) => self.close(&mixed, &z, "(c)", &at("z")),
                    Err(e) => self.fail("(c)", &at("z"), e),
                }
            }
            None => self.fail("(c)", &at("v"), "there is no such site"),
        }
        if let (Some(result), Some(out)) = (self.find(trace, &at("result")), self.find(trace, &at("output"))) {
            let sum = t::sum(&result, 1, false).and_then(|sum| match self.maker(&at("output")).map(|i| &i.op) {
                Some(Op::Linear(w)) if w.bias.is_some() => {
                    t::add(&sum, self.model.parameters().tensor(w.bias.unwrap_or_default())?)
                }
                _ => Ok(sum),
            });
            match sum {
                Ok(sum) => self.close(&sum, &out, "(c)", &at("result")),
                Err(e) => self.fail("(c)", &at("result"), e),
            }
        }
        // The rows of the pattern, each the softmax of its scores less the sink's share.
        let soft = t::softmax(&scores, -1).and_then(|s| t::mul(&s, &t::sum(&pattern, -1, true)?));
        match soft {
            Ok(soft) => self.close(&soft, &pattern, "(d)", &at("scores")),
            Err(e) => self.fail("(d)", &at("scores"), e),
        }
        let width = pattern.dim(3);
        for (line, weights) in values(&pattern).chunks(width).enumerate() {
            let (query, sum) = (line % pattern.dim(2), weights.iter().sum::<f32>());
            let whole = if kernel.sinks.is_some() { sum > 0.0 && sum < 1.0 } else { (sum - 1.0).abs() < 1e-5 };
            let sees = |key: usize| {
                let apart = query.abs_diff(key);
                let near = kernel.window.is_none_or(|w| if kernel.causal { apart < w } else { apart <= w });
                (!kernel.causal || key <= query) && near && kernel.chunk.is_none_or(|c| query / c == key / c)
            };
            let blind = weights.iter().enumerate().all(|(key, w)| *w == 0.0 || sees(key));
            if !whole || !blind {
                return self.fail(
                    "(d)",
                    &at("pattern"),
                    format!("query {query} sums to {sum}, or sees what it must not"),
                );
            }
        }
    }

    /// (e) `act` is what the last projection takes, made of `gate` and `up`, or of `pre`.
    fn neurons(&mut self, trace: &Trace, layer: &str) {
        let at = |name: &str| format!("{layer}.mlp.{name}");
        let Some(act) = self.find(trace, &at("act")) else { return };
        let mut made = Vec::new();
        if let (Some(gate), Some(up)) = (self.find(trace, &at("gate")), self.find(trace, &at("up"))) {
            made.extend(activations(&gate).into_iter().filter_map(|a| t::mul(&a, &up).ok()));
        }
        if let Some(pre) = self.find(trace, &at("pre")) {
            made.extend(activations(&pre));
        }
        if !made.is_empty() {
            let nearest = made.iter().map(|m| super::difference(m, &act)).fold(f32::INFINITY, f32::min);
            self.expect(nearest <= ROUNDING, "(e)", &at("act"), format!("off by {nearest:.1e} from any activation"));
        }
        // Unless a norm stands between the two.
        if let Some(last) = self.maker(&at("output"))
            && let Op::Linear(w) = &last.op
            && self.is_origin(&at("act"), last.inputs[0])
            && let Some(out) = self.find(trace, &at("output"))
        {
            match self.model.parameters().linear(w, &act) {
                Ok(again) => self.close(&again, &out, "(e)", &at("output")),
                Err(e) => self.fail("(e)", &at("output"), e),
            }
        }
    }

    /// (f) The last layer's output goes into the last norm, that into the head, and the head gives the logits.
    fn head(&mut self, trace: &Trace, last: Option<&String>) {
        let last = last.and_then(|l| self.find(trace, &format!("{l}.output")));
        if let (Some(last), Some(input)) = (last, self.find(trace, "norm.input")) {
            self.same_bits(&input, &last, "(f)", "norm.input");
        }
        if let (Some(input), Some(out)) = (self.find(trace, "norm.input"), self.find(trace, "norm")) {
            match self.maker("norm").map(|i| &i.op) {
                Some(Op::RmsNorm { weight, eps, offset }) => {
                    let weight = weight.and_then(|w| self.model.parameters().tensor(w).ok().cloned());
                    let weight = weight.map(|w| t::add(&w, &t::weak(*offset, &w).unwrap()).unwrap());
                    let again = t::rms_norm(&input, weight.as_ref(), *eps).unwrap();
                    self.close(&again, &out, "(f)", "norm");
                }
                Some(Op::LayerNorm { .. }) | None => {}
                Some(other) => self.fail("(f)", "norm", format!("made by {other:?}")),
            }
        }
        let (Some(input), Some(out)) = (self.find(trace, "lm_head.input"), self.find(trace, "lm_head")) else {
            return self.fail("(f)", "lm_head", "there is no such site");
        };
        if let Some(Op::Linear(w)) = self.maker("lm_head").map(|i| &i.op) {
            let again = self.model.parameters().dense(w).and_then(|w| t::matmul(&input, &t::swap_axes(&w, 0, 1)?));
            let again = again.and_then(|a| match w.bias {
                Some(bias) => t::add(&a, self.model.parameters().tensor(bias)?),
                None => Ok(a),
            });
            match again {
                Ok(again) => self.close(&again, &out, "(f)", "lm_head"),
                Err(e) => self.fail("(f)", "lm_head", e),
            }
        }
    }
}

/// What the usual activations make of a value, computed in double precision.
fn activations(x: &Array) -> Vec<Array> {
    let x64: Vec<f64> = values(x).into_iter().map(f64::from).collect();
    let erf = t::erf(&t::div(x, &t::weak(std::f64::consts::SQRT_2, x).unwrap()).unwrap()).unwrap();
    let gelu =
        t::mul(&t::mul(x, &t::weak(0.5, x).unwrap()).unwrap(), &t::add(&erf, &t::weak(1.0, x).unwrap()).unwrap());
    let of = |f: &dyn Fn(f64) -> f64| {
        Array::from_slice(&x64.iter().map(|x| f(*x) as f32).collect::<Vec<_>>(), &x.dims()).unwrap()
    };
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let tanh_gelu = |x: f64| 0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044715 * x * x * x)).tanh());
    vec![
        of(&|x| x * sigmoid(x)),
        gelu.unwrap(),
        of(&tanh_gelu),
        of(&|x| x * sigmoid(1.702 * x)),
        of(&|x| x.max(0.0)),
        of(&|x| x.max(0.0).powi(2)),
        of(&sigmoid),
        of(&f64::tanh),
    ]
}

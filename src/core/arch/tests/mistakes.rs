use super::super::weights::{TensorInfo, plan_weights};
use super::*;

/// A text and all of what is said about it, the checkpoint of this module's tests being there.
const MISTAKES: &[(&str, &str)] = &[
    ("", "mine line 1, column 1: expected 'arch NAME', found an empty file"),
    ("# nothing", "mine line 1, column 1: expected 'arch NAME', found an empty file"),
    ("arc mine", "mine line 1, column 1: expected 'arch NAME' on the first line, found 'arc'"),
    ("arch", "mine line 1, column 5: expected the description's name, found the end of the line"),
    (
        "arch mine form llama",
        "mine line 1, column 11: expected 'from', 'wraps' or 'for', found 'form'; did you mean 'for'?",
    ),
    ("arch mine from lama", "mine line 1, column 16: the library has no description 'lama'; did you mean 'llama'?"),
    ("arch mine from", "mine line 1, column 15: expected a parent after 'from', found the end of the line"),
    ("arch mine wraps llama", "mine line 1, column 22: expected 'under PATH', found the end of the line"),
    ("arch mine for a b", "mine line 1, column 11: expected model types with commas between after 'for', found 'a b'"),
    ("arch mine\n  x = 1", "mine line 2, column 3: this line is indented but belongs to no section"),
    (
        "arch mine\nwieghts:\n  drop x",
        "mine line 2, column 1: expected config:, weights:, roles: or Block(arguments):, found 'wieghts:'; did you mean 'weights:'?",
    ),
    ("arch mine\nconfig:\n  n 3", "mine line 3, column 5: expected '=' after the name, found the number 3"),
    ("arch mine\nconfig:\n  n = 1\n  n = 2", "mine line 4, column 3: the config entry 'n' is there already"),
    ("arch mine\nconfig:\n  n = 3 +", "mine line 3, column 10: expected a value, found the end of the line"),
    ("arch mine\nconfig:\n  n = (1, 2)", "mine line 3, column 9: expected ')', found ',': a list is written [a, b]"),
    ("arch mine\nconfig:\n  n = True", "mine line 3, column 7: expected a value, found 'True': write 'true'"),
    ("arch mine\nconfig:\n  n = [1, 2", "mine line 3, column 7: '[' is never closed"),
    (
        "arch mine\nconfig:\n  n = 'abc",
        "mine line 3, column 7: expected ' at the end of the text, found the end of the line",
    ),
    ("arch mine\nconfig:\n  n = 3 $ 4", "mine line 3, column 9: '$' means nothing here"),
    ("arch mine\nconfig:\n  n = 1e", "mine line 3, column 7: expected digits after '1e'"),
    (
        "arch mine\nconfig:\n  n = 1 if 2",
        "mine line 3, column 13: expected 'else' after the condition, found the end of the line",
    ),
    ("arch mine\nconfig:\n  n = [1)", "mine line 3, column 9: expected ']' for the '[' of line 3, found ')'"),
    (
        "arch mine\nweights:\n  dorp x",
        "mine line 3, column 3: expected a weight rule (drop, rename, transpose, squeeze, add, stack, halve, move, unflatten, conv_layout, mla_split, split_experts, unit_rows, clear), found 'dorp'; did you mean 'drop'?",
    ),
    ("arch mine\nweights:\n  rename x", "mine line 3, column 10: expected 'from -> to' after 'rename', found 'x'"),
    (
        "arch mine\nweights:\n  rename (a -> b",
        "mine line 3, column 10: '(a' is no regular expression: Parsing error at position 2: Opening parenthesis without closing parenthesis",
    ),
    (
        "arch mine\nweights:\n  halve *.a -> \\1.b by 0",
        "mine line 3, column 3: expected two names after '->', found '\\1.b'",
    ),
    (
        "arch mine\nweights:\n  stack *.a -> b",
        "mine line 3, column 9: expected {e} for the expert's number, found '*.a'",
    ),
    ("arch mine\nweights:\n  drop a{b", "mine line 3, column 8: '{' is never closed in 'a{b'"),
    ("arch mine\nweights:\n  add one *.a", "mine line 3, column 7: expected 'add NUMBER pattern', found 'add one *.a'"),
    ("arch mine\nweights:\n  drop x if (", "mine line 3, column 13: '(' is never closed"),
    (
        "arch mine\nroles:\n  atn = self_attn",
        "mine line 3, column 3: expected a role (embed, pos_embed, layer, attn, mlp, resid_mid, norm, head, attn_add, mlp_add, mixer_add, attn.input, attn.output, attn.q, attn.k, attn.v, attn.z, attn.scores, attn.pattern, attn.result, mlp.input, mlp.output, mlp.gate, mlp.up, mlp.pre, mlp.act, mlp.router, mlp.experts.chosen, mlp.experts.weights, mixer), found 'atn'; did you mean 'attn'?",
    ),
    ("arch mine\nroles:\n  attn", "mine line 3, column 3: expected ROLE = path, found 'attn'"),
    (
        "arch mine\nroles:\n  attn = self attn",
        "mine line 3, column 3: expected a path for the role 'attn', found 'self attn'",
    ),
    ("arch mine\nconfig:\n  n = 1", "mine: expected a block 'Main(ids):', found none"),
    ("arch mine\nMain(ids):", "mine line 2, column 1: the block 'Main' is empty: indent its lines"),
    ("arch mine\nMain(ids, ids):\n  return ids", "mine line 2, column 11: the parameter 'ids' is there already"),
    (
        "arch mine\nMain(ids)\n  return ids",
        "mine line 2, column 10: expected ':' after the block's parameters, found the end of the line",
    ),
    (
        "arch mine\nMain(ids):\n  return ids\nMain(x):\n  return x",
        "mine line 4, column 1: the block 'Main' is there already (line 2)",
    ),
    ("arch mine\nMain(ids):\n  y = ids +", "mine line 3, column 12: expected a value, found the end of the line"),
    (
        "arch mine\nMain(ids):\n  y = ids\n   z = ids",
        "mine line 4, column 4: expected 2 spaces before this line, found 3",
    ),
    (
        "arch mine\nMain(ids):\n  y = ids\n  y = ids\n  return y",
        "mine line 4, column 3: 'y' is bound already: a name means one value, give this one another name",
    ),
    (
        "arch mine\nMain(ids):\n  ids = ids\n  return ids",
        "mine line 3, column 3: 'ids' is bound already: a name means one value, give this one another name",
    ),
    (
        "arch mine\nMain(ids):\n  y ids",
        "mine line 3, column 5: expected '=' after the name (or return, if, for), found 'ids'",
    ),
    (
        "arch mine\nMain(ids):\n  if true\n    return ids",
        "mine line 3, column 10: expected ':' after the condition, found the end of the line",
    ),
    (
        "arch mine\nMain(ids):\n  if true:\n  return ids",
        "mine line 3, column 3: expected an indented line after ':', found none",
    ),
    (
        "arch mine\nMain(ids):\n  for x ids:\n    y = x",
        "mine line 3, column 9: expected 'in' after the names, found 'ids'",
    ),
    (
        "arch mine\nMain(ids):\n  y = ids\n  norm: rmsnorm(1)\n  return y",
        "mine line 4, column 3: declarations come before the first statement of a block",
    ),
    (
        "arch mine\nMain(ids):\n  norm: rmsnrom(1)\n  return ids",
        "mine line 3, column 9: expected a kind or a block of this description, found 'rmsnrom'; did you mean 'rmsnorm'?",
    ),
    (
        "arch mine\nMain(ids):\n  norm: rmsnorm(1, esp=2)\n  return ids",
        "mine line 3, column 24: 'rmsnorm' has no argument 'esp' (it takes: eps, offset, groups, affine); did you mean 'eps'?",
    ),
    (
        "arch mine\nMain(ids):\n  a, a: linear\n  return ids",
        "mine line 3, column 6: 'a' is bound already: give this one another name",
    ),
    ("arch mine\nMain(ids):\n\treturn ids", "mine line 3, column 1: expected spaces before the text, found a tab"),
    ("arch mine\nMain(ids):\n  return heads(ids)", "mine line 3, column 10: 'heads' needs its argument 'n'"),
    (
        "arch mine\nMain(ids):\n  return heads(ids, 1, 2)",
        "mine line 3, column 10: 'heads' takes at most 2 arguments, found 3",
    ),
    (
        "arch mine\nMain(ids):\n  return softmax(ids, axes=1)",
        "mine line 3, column 28: 'softmax' has no argument 'axes' (it takes: x, axis); did you mean 'axis'?",
    ),
    (
        "arch mine\nMain(ids):\n  return attend(ids, ids, ids, windw=3)",
        "mine line 3, column 38: 'attend' has no argument 'windw' (it takes: q, k, v, scale, window, chunk, softcap, sinks, bias, causal, extra_mask, f32); did you mean 'window'?",
    ),
    ("arch mine\nMain(ids):\n  return f(x=1, x=2)", "mine line 3, column 17: 'x' is given twice"),
    (
        "arch mine\nMain(ids):\n  return f(x=1, 2)",
        "mine line 3, column 17: arguments without a name come before those with one",
    ),
    ("arch mine\nMain(ids):\n  return for", "mine line 3, column 10: expected a value, found 'for'"),
    ("arch mine\nMain(ids):\n  return lambda", "mine line 3, column 10: expected a value, found 'lambda'"),
    (
        "arch mine\nMain(ids):\n  return zz",
        "mine line 3, column 10: 'zz' is neither bound here, nor a config: entry, nor a key of config.json (in Main)",
    ),
    (
        "arch mine\nMain(ids):\n  return mdoel(ids)",
        "mine line 3, column 10: 'mdoel' is no operation, and the checkpoint has no tensor 'mdoel.weight'; did you mean 'model'?",
    ),
    ("arch mine\nMain(ids):\n  return ids(1)", "mine line 3, column 10: 'ids' is a tensor and cannot be called"),
    (
        "arch mine\nMain(ids, x):\n  return x",
        "mine line 2, column 1: Main takes 'ids' alone, or arrays under other names; found ids, x",
    ),
    (
        "arch mine\nMain(ids):\n  s: opaque(outputs=0)\n  return s(ids)",
        "mine line 3, column 21: the opaque 's': 'outputs' must be a whole number, found 0",
    ),
    (
        "arch mine\nMain(ids):\n  s: opaque(65)\n  return s(ids)",
        "mine line 3, column 13: the opaque 's': 65 outputs; at most 64 are possible",
    ),
    (
        "arch mine\nMain(ids):\n  s: opaque\n  return s(ids, 2)",
        "mine line 4, column 10: opaque 's': argument 1 must be a tensor, found 2",
    ),
    (
        "arch mine\nMain(ids):\n  s: opaque\n  return s(ids, mask=ids)",
        "mine line 4, column 10: opaque 's' takes its arguments without names, found 'mask'",
    ),
    (
        "arch mine\nMain(ids):\n  s: opaque(outputs=2)\n  a, b, c = s(ids)\n  return a",
        "mine line 4, column 3: 3 names for 2 values",
    ),
    ("arch mine\nMain(ids):\n  return 1", "mine line 2, column 1: Main returns 1, a tensor is needed"),
    (
        "arch mine\nMain(ids):\n  return Block(ids)\nBlock(x):\n  return Block(x)",
        "mine line 5, column 16: blocks and expressions stand more than 160 deep inside each other: does one call itself?",
    ),
    (
        "arch mine\nMain(ids):\n  return Block(ids, 1)\nBlock(x):\n  return x",
        "mine line 3, column 10: the block 'Block' takes 1 arguments, found 2",
    ),
    (
        "arch mine\nMain(ids):\n  return Block(ids, y=1)\nBlock(x):\n  return x",
        "mine line 3, column 23: the block 'Block' has no parameter 'y'; did you mean 'x'?",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return x + 'a'",
        "mine line 5, column 10: expected a tensor or a number, found 'a'",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return x if x else x",
        "mine line 5, column 15: a condition must be known when the model is loaded, but this one is a tensor (use where)",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  a, b = x\n  return a",
        "mine line 5, column 3: 2 names for a tensor",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return x != x",
        "mine line 5, column 10: '!=' does not compare tensors (<, <=, >, >=, == do)",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return x[1.5]",
        "mine line 5, column 12: expected a whole number, found 1.5",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return top_k(x, 99)",
        "mine line 5, column 19: 'k' of 'top_k' must be a whole number from 1 to 32, found 99",
    ),
    (
        "arch mine\nMain(ids):\n  s: switch\n  return s(ids)",
        "mine line 4, column 10: 's' (switch) needs the chosen experts as second argument, found nothing",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return heads(x, 5)",
        "mine line 5, column 19: 32 features cannot be split into 5 heads",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return act('silo', x)",
        "mine line 5, column 14: the activation 'silo' is not known (silu, swish, gelu, gelu_python, gelu_new, gelu_fast, gelu_pytorch_tanh, gelu_tanh, gelu_accurate, quick_gelu, relu, relu2, relu_squared, sigmoid, tanh); did you mean 'silu'?",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return attend(x, x, x)",
        "mine line 5, column 10: 'attend' needs [batch, head, position, feature] (see heads, flip), found Hidden",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return split(x, 5)[0]",
        "mine line 5, column 19: 32 features cannot be split into 5 equal parts",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return split(x, [30, 3])[0]",
        "mine line 5, column 19: 32 features cannot be split into [30, 3], which are 33",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return transpose(x, 0, 0)",
        "mine line 5, column 10: 'transpose' needs every axis once, counted from 0",
    ),
    (
        "arch mine\nMain(ids):\n  p: param\n  return p",
        "mine line 3, column 3: the checkpoint has no tensor 'p', which is declared here (write 'p?' if it may be missing)",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  for y in 3:\n    z = y\n  return x",
        "mine line 5, column 12: expected a list to go through, found 3",
    ),
    (
        "arch mine\nconfig:\n  n = m + 1\n  m = n + 1\nMain(ids):\n  return n",
        "mine line 4, column 7: config entries depend on each other: n -> m -> n",
    ),
    (
        "arch mine\nconfig:\n  n = num_heads * 2\nMain(ids):\n  return n",
        "mine line 3, column 7: n: cannot compute none * 2 (config.json: num_heads is missing)",
    ),
    (
        "arch mine\nconfig:\n  n = [0] * 99999999\nMain(ids):\n  return n",
        "mine line 3, column 7: n: a list or text of 99999999: at most 1048576",
    ),
    ("arch mine\nconfig:\n  n = 9 ** 99\nMain(ids):\n  return n", "mine line 3, column 7: n: 9 ** 99 is too large"),
    (
        "arch mine\nconfig:\n  n = ids.x + {'a': 1}.b\nMain(ids):\n  return n",
        "mine line 3, column 7: n: cannot compute none + none (config.json: ids is missing)",
    ),
    (
        "arch mine\nMain(ids):\n  return ----------------------------------------------------------------------------------------------------1",
        "mine line 3, column 10: an expression nested more than 64 deep: name its parts",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return where(x, 0, 1)",
        "mine line 5, column 19: 'where' needs a tensor for 'a' or 'b': of two numbers it cannot tell the dtype",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return x.",
        "mine line 5, column 12: expected a name after '.', found the end of the line",
    ),
    ("arch mine\nMain(ids):\n  return {1: 2}", "mine line 3, column 11: expected text as a key, found 1"),
    (
        "arch mine\nMain(ids):\n  return {'a' 2}",
        "mine line 3, column 15: expected ':' after the key, found the number 2",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return x[1:2:0]",
        "mine line 5, column 11: a slice's step must be positive, found 0",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return rope(x, 3)",
        "mine line 5, column 18: expected an even number of dimensions up to the 32 features of a head, found 3",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return softcap(x, none)",
        "mine line 5, column 21: 'c' of 'softcap' must be a number, found none",
    ),
    (
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  x = embed_tokens(ids)\n  return layer(x)",
        "mine line 5, column 10: 'layer' is no operation, and the checkpoint has no tensor 'layer.weight'; did you mean 'gather'?",
    ),
    (
        "arch mine\nconfig:\n  n = maxx(1)\nMain(ids):\n  return ids",
        "mine line 3, column 7: expected a function, found 'maxx'; did you mean 'max'?",
    ),
    (
        "arch mine\nconfig:\n  n = len()\nMain(ids):\n  return ids",
        "mine line 3, column 7: 'len' needs its argument 'x'",
    ),
];

#[test]
fn every_mistake_is_answered_with_its_place_and_the_way_out() {
    for (text, message) in MISTAKES {
        match compile_text(text) {
            Ok(_) => panic!("this compiles:\n{text}"),
            Err(e) => assert_eq!(e.message(), *message, "\n{text}"),
        }
    }
}

#[test]
fn what_would_nest_or_grow_without_end_is_refused() {
    let deep = |n: usize| {
        let calls: String = (0..n).map(|i| format!("B{i}(x):\n  return B{}(x)\n", i + 1)).collect();
        format!("arch mine\nMain(ids):\n  return B0(ids)\n{calls}B{n}(x):\n  return x\n")
    };
    let many = "y = [x for x in range(9999)]".replace("x for", "[x for x in range(9999)] for");
    for text in [
        format!("arch mine\nMain(ids):\n  return {}ids{}\n", "(".repeat(4000), ")".repeat(4000)),
        format!("arch mine\nMain(ids):\n  return {}1\n", "-".repeat(4000)),
        format!("arch mine\nMain(ids):\n  return {}1\n", "not ".repeat(4000)),
        format!("arch mine\nMain(ids):\n  return 1{}\n", "**1".repeat(4000)),
        format!("arch mine\nMain(ids):\n  return x{}\n", "[0]".repeat(1300)),
        format!("arch mine\nMain(ids):\n  return 1{}\n", " if 1 else 1".repeat(1000)),
        format!("arch mine\nMain(ids):\n  return [{}]\n", "1,".repeat(5000)),
        format!("arch mine\nMain(ids):\n{}", (0..100).map(|i| format!("{}if true:\n", " ".repeat(i + 2))).collect::<String>()),
        format!("arch mine\nMain(ids):\n  {many}\n  return ids\n"),
        format!("arch mine\nconfig:\n  y = {}\nMain(ids):\n  return y\n", "[[j for j in range(9999)] for k in range(9999)]"),
        "arch mine\nMain(ids):\n  x = range(1000000)\n  for a in x:\n    for b in x:\n      c = b\n  return ids\n".to_owned(),
        "arch mine\nMain(ids):\n  model.embed_tokens: embedding\n  h = embed_tokens(ids)\n  for a in range(1000000):\n    h = h + 2\n  return h\n".to_owned(),
        "arch mine\nMain(ids):\n  m[1000000000]: linear\n  return ids\n".to_owned(),
        deep(400),
        format!("arch mine\nMain(ids):\n  return {}(ids)\n", "x".repeat(5000)),
        format!("arch mine\nMain(ids):\n{}  return ids\n", (0..400).map(|i| format!("  a{i} = [0] * 1000000\n")).collect::<String>()),
        "x".repeat(2 << 20),
    ] {
        let start: String = text.chars().take(80).collect();
        let e = compile_text(&text).err().unwrap_or_else(|| panic!("this compiles: {start}"));
        assert!(e.message().len() < 400, "{start}: {e}");
    }
    // A few blocks inside each other are nothing out of the ordinary: only the tensors are left over.
    assert!(compile_text(&deep(20)).unwrap_err().message().contains("does not use 20 of"));
}

#[test]
fn a_mistake_in_a_parent_names_the_parent() {
    let find = |name: &str| (name == "base").then(|| "arch base\nMain(ids):\n  return zz(ids)\n".to_owned());
    let child = Description::parse_with("arch mine from base", "mine", &find).unwrap();
    let e = elaborate(&child, &config(), &shapes()).unwrap_err();
    assert!(e.message().starts_with("base line 3, column 10: 'zz' is no operation"), "{e}");
    let circle = |name: &str| Some(format!("arch {name} from {name}"));
    let e = Description::parse_with("arch a from a", "a", &circle).unwrap_err();
    assert!(e.message().ends_with("is the 8th description in a row: do they go in circles?"), "{e}");
}

#[test]
fn a_rule_that_makes_two_tensors_one_is_refused() {
    let d = Description::parse("arch mine from llama\nweights:\n  rename \\d+ -> 0", "mine").unwrap();
    let infos = shapes().into_iter().map(|(k, shape)| (k, TensorInfo { shape, dtype: "F32".into() })).collect();
    let e = plan_weights(&d, &config(), &infos).unwrap_err();
    assert!(e.message().starts_with("mine line 3, column 3: two tensors become 'model.layers.0."), "{e}");
}

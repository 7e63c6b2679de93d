/*
 * mlxterp for C++17: look inside language models and change what happens there.
 *
 *     auto model = mlxterp::model::load("model.gguf");
 *     auto trace = model.trace("The capital of France is");
 *     mlxterp::array attention = trace["layers.3.attn.output"];    nothing is computed yet
 *     trace["layers.4.mlp.output"] = attention * 0.5;              everything after it sees the new value
 *     std::vector<float> logits = trace["output"].read().to_vector<float>();
 *
 * Header-only, over the C interface (mlxterp.h), which is the manual for what each call means. What is C++ about it:
 *
 * - Objects own their handles and are moved, not copied; share() makes a second handle on the same value.
 * - Whatever can fail throws mlxterp::error, which has the status, the site where there is one, and a message that
 *   names the value and the way out.
 * - A function that is called back may throw. Nothing unwinds through the library: the call that led to the function
 *   throws the very same exception.
 *
 * A value of another header's version is refused at the first load: see model::load.
 */
#pragma once

#include "mlxterp.h"
#include "mlxterp/array.hpp"
#include "mlxterp/error.hpp"
#include "mlxterp/generation.hpp"
#include "mlxterp/handle.hpp"
#include "mlxterp/intervention.hpp"
#include "mlxterp/model.hpp"
#include "mlxterp/opaque.hpp"
#include "mlxterp/tool.hpp"
#include "mlxterp/trace.hpp"

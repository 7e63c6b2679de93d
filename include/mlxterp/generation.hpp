/* Generation: step by step, each step a trace. */
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model.hpp"

namespace mlxterp {

/// In which steps a change is made.
enum class when : std::uint32_t {
    always = MLXTERP_WHEN_ALWAYS,
    /// In step 0, over the prompts.
    prefill = MLXTERP_WHEN_PREFILL,
    /// In every later step.
    decode = MLXTERP_WHEN_DECODE,
};

/// What a change may hang on, row by row: a linear probe and a threshold.
class condition {
public:
    /// Takes a handle of the C interface over.
    explicit condition(mlxterp_condition *raw) noexcept : raw_(raw) {}

    /// While `direction . value + bias` at each row's last position of `site` is greater than `threshold`.
    static condition above(const std::string &site, const array &direction, double threshold, double bias = 0.0) {
        return make(site, direction, threshold, bias, false);
    }
    /// While it is less.
    static condition below(const std::string &site, const array &direction, double threshold, double bias = 0.0) {
        return make(site, direction, threshold, bias, true);
    }
    /// In words.
    std::string describe() const {
        return detail::text([&](auto out) { return mlxterp_condition_describe(get(), out); });
    }

    /// For calls of the C interface; still owned here.
    mlxterp_condition *get() const noexcept { return raw_.get(); }

private:
    static condition make(const std::string &site, const array &direction, double threshold, double bias, bool below) {
        return condition(detail::made<mlxterp_condition>(
            [&](auto out) {
                return mlxterp_condition_new(site.c_str(), direction.get(), bias, threshold, below, out);
            },
            site));
    }

    detail::handle<mlxterp_condition, mlxterp_condition_free> raw_;
};

/// A change that is made again in every step it is meant for. What is pointed to must live until the call ends.
struct steer {
    /// Site or pattern.
    std::string pattern;
    /// What is done there; position -1 is the newest token in every step.
    const intervention *change;
    when steps = when::always;
    /// Only in rows that meet it; nullptr: in all.
    const condition *only_while = nullptr;
};

/// How a generation runs.
struct generate_options {
    /// The most tokens drawn for a row.
    std::size_t max_tokens = 128;
    /// 0 is greedy.
    double temperature = 0.0;
    /// Filters, applied in this order; 0, 1 and 0 keep every token.
    std::size_t top_k = 0;
    double top_p = 1.0;
    double min_p = 0.0;
    /// Row `r` of a batch draws what it would draw alone with `seed + r`.
    std::uint64_t seed = 0;
    /// Texts that end a row.
    std::vector<std::string> stops;
    /// Token ids that end a row; by default those the model's files name.
    std::optional<std::vector<std::uint32_t>> eos;
    /// Applied in this order.
    std::vector<steer> steering;
    bool keep_all = false;
    bool strict = false;
    /// Told of every step before its tokens are drawn. It may throw: that ends the generation, and comes back.
    std::function<void(std::size_t step, const trace &)> on_step;
};

namespace detail {

using step_function = std::function<void(std::size_t, const trace &)>;

inline int32_t call_step(void *user, std::size_t step, const mlxterp_trace *lent) noexcept {
    try {
        const trace own(mlxterp_trace_retain(lent));
        (*static_cast<const step_function *>(user))(step, own);
        return MLXTERP_STATUS_OK;
    } catch (...) {
        return hold_exception();
    }
}

inline void forget_step(void *user) noexcept { delete static_cast<step_function *>(user); }

}  // namespace detail

/// A generation under way.
///
///     auto generation = mlxterp::generate(model, "Once upon a time", options);
///     while (auto step = generation.next()) {
///         (*step)["layers.3.output"] *= 1.5;           until the tokens are drawn
///         std::cout << generation.piece(0);            draws
///     }
class generation {
public:
    /// Takes a handle of the C interface over.
    explicit generation(mlxterp_generation *raw) noexcept : raw_(raw) {}

    /// The trace of the next step; empty when every row has ended. Draws the tokens of the step before, if nobody has.
    std::optional<trace> next() const {
        mlxterp_trace *out = nullptr;
        detail::check(mlxterp_generation_next(get(), &out));
        return out == nullptr ? std::nullopt : std::optional<trace>(trace(out));
    }
    /// Draws the tokens of the step that was begun last. From here on, writes to its trace come too late.
    void draw() const { detail::check(mlxterp_generation_draw(get())); }
    /// The token that a row drew in that step; empty for a row that had ended before.
    std::optional<std::uint32_t> token(std::size_t row = 0) const {
        std::int64_t out = 0;
        detail::check(mlxterp_generation_token(get(), row, &out));
        return out < 0 ? std::nullopt : std::optional<std::uint32_t>(static_cast<std::uint32_t>(out));
    }
    /// The text of a row that became complete with it.
    std::string piece(std::size_t row = 0) const {
        return detail::text([&](auto out) { return mlxterp_generation_piece(get(), row, out); });
    }
    /// Runs to the end.
    const generation &run() const {
        detail::check(mlxterp_generation_run(get()));
        return *this;
    }
    /// Whether no step will follow.
    bool done() const noexcept { return mlxterp_generation_is_done(get()); }
    /// The text of a row so far.
    std::string text(std::size_t row = 0) const {
        return detail::text([&](auto out) { return mlxterp_generation_text(get(), row, out); });
    }
    /// The tokens that a row has drawn.
    std::vector<std::uint32_t> tokens(std::size_t row = 0) const {
        std::size_t count = 0;
        detail::check(mlxterp_generation_tokens(get(), row, nullptr, 0, &count));
        std::vector<std::uint32_t> ids(count);
        detail::check(mlxterp_generation_tokens(get(), row, ids.data(), ids.size(), &count));
        return ids;
    }
    /// Every row as far as it has come, as a JSON list.
    std::string rows_json() const {
        return detail::text([&](auto out) { return mlxterp_generation_rows_json(get(), out); });
    }
    /// What the model remembers of the prompts and the tokens that were run so far.
    class cache cache() const {
        return mlxterp::cache(
            detail::made<mlxterp_cache>([&](auto out) { return mlxterp_generation_cache(get(), out); }));
    }

    /// For calls of the C interface; still owned here.
    mlxterp_generation *get() const noexcept { return raw_.get(); }

private:
    detail::handle<mlxterp_generation, mlxterp_generation_free> raw_;
};

/// Starts a generation from a batch. Nothing is computed.
inline generation generate(const model &of, const batch &prompts, const generate_options &wanted = {}) {
    mlxterp_generate_options options;
    detail::check(mlxterp_generate_options_init(&options));
    options.max_tokens = wanted.max_tokens;
    options.temperature = wanted.temperature;
    options.top_k = wanted.top_k;
    options.top_p = wanted.top_p;
    options.min_p = wanted.min_p;
    options.seed = wanted.seed;
    options.keep_all = wanted.keep_all;
    options.strict = wanted.strict;
    std::vector<const char *> stops, patterns;
    for (const std::string &stop : wanted.stops) {
        stops.push_back(stop.c_str());
    }
    options.stops = stops.data();
    options.stop_count = stops.size();
    static const std::uint32_t nothing = 0;
    if (wanted.eos) {
        options.eos_ids = wanted.eos->empty() ? &nothing : wanted.eos->data();
        options.eos_count = wanted.eos->size();
    }
    std::vector<const mlxterp_intervention *> changes;
    std::vector<std::uint32_t> whens;
    std::vector<const mlxterp_condition *> conditions;
    for (const steer &one : wanted.steering) {
        patterns.push_back(one.pattern.c_str());
        changes.push_back(one.change->get());
        whens.push_back(static_cast<std::uint32_t>(one.steps));
        conditions.push_back(one.only_while == nullptr ? nullptr : one.only_while->get());
    }
    options.patterns = patterns.data();
    options.interventions = changes.data();
    options.whens = whens.data();
    options.conditions = conditions.data();
    options.intervention_count = changes.size();
    if (wanted.on_step) {
        options.on_step_user = std::make_unique<detail::step_function>(wanted.on_step).release();
        options.on_step = detail::call_step;
        options.on_step_destroy = detail::forget_step;  // also when nothing is started
    }
    return generation(detail::made<mlxterp_generation>(
        [&](auto out) { return mlxterp_generation_start(of.get(), prompts.get(), &options, out); }));
}

/// Starts a generation from a text.
inline generation generate(const model &of, const std::string &prompt, const generate_options &wanted = {}) {
    return generate(of, of.batch({prompt}), wanted);
}

/// Starts the answer to a conversation, a JSON list of messages, through the model's chat template.
inline generation chat(const model &of, const std::string &messages_json, const generate_options &wanted = {}) {
    const batch prompts(detail::made<mlxterp_batch>(
        [&](auto out) { return mlxterp_batch_from_chats(of.get(), messages_json.c_str(), nullptr, out); }));
    return generate(of, prompts, wanted);
}

/// A conversation as the model's chat template writes it; `extra_json` has further names for the template.
inline std::string apply_chat_template(const model &of, const std::string &messages_json,
                                       bool add_generation_prompt = false, const std::string &extra_json = "{}") {
    return detail::text([&](auto out) {
        return mlxterp_model_apply_chat_template(of.get(), messages_json.c_str(), add_generation_prompt,
                                                 extra_json.c_str(), out);
    });
}

}  // namespace mlxterp

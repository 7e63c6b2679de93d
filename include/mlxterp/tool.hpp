/* Analyses by name: options in JSON, a result back. */
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "model.hpp"

namespace mlxterp {

/// What an analysis found. Immutable.
class result {
public:
    /// Takes a handle of the C interface over.
    explicit result(mlxterp_result *raw) noexcept : raw_(raw) {}

    /// Which analysis made it, such as "logit_lens".
    std::string kind() const {
        return detail::text([&](auto out) { return mlxterp_result_kind(get(), out); });
    }
    /// In words and tables.
    std::string text() const {
        return detail::text([&](auto out) { return mlxterp_result_text(get(), out); });
    }
    /// All of it, axes by name.
    std::string json() const {
        return detail::text([&](auto out) { return mlxterp_result_json(get(), out); });
    }
    /// Drawn: a fragment of HTML with its own styles, without script or request.
    std::string html() const {
        return detail::text([&](auto out) { return mlxterp_result_html(get(), out); });
    }
    /// Names of its arrays, as a JSON list.
    std::string array_names_json() const {
        return detail::text([&](auto out) { return mlxterp_result_array_names_json(get(), out); });
    }
    /// One of its arrays by name.
    array operator[](const std::string &name) const {
        return array(detail::made<mlxterp_array>(
            [&](auto out) { return mlxterp_result_array(get(), name.c_str(), out); }));
    }

    /// For calls of the C interface; still owned here.
    mlxterp_result *get() const noexcept { return raw_.get(); }

private:
    detail::handle<mlxterp_result, mlxterp_result_free> raw_;
};

/// What a tool is given besides its options. What is pointed to must live until the call ends.
struct tool_inputs {
    /// Arrays by name.
    std::vector<std::pair<std::string, const array *>> arrays;
    /// What every run of the tool is under, each a site or pattern and what is done there.
    std::vector<std::pair<std::string, const intervention *>> interventions;
    /// A metric in place of one named in the options: a number a row of the trace. It may throw.
    std::function<array(const trace &)> metric;
    /// Told (done, total); false ends the tool, and so does an exception, which comes back.
    std::function<bool(std::uint64_t, std::uint64_t)> progress;
};

namespace detail {

inline int32_t call_metric(void *user, const mlxterp_trace *lent, mlxterp_array **out_value) noexcept {
    try {
        const trace own(mlxterp_trace_retain(lent));
        array value = (*static_cast<const std::function<array(const trace &)> *>(user))(own);
        *out_value = value.release();
        return MLXTERP_STATUS_OK;
    } catch (...) {
        return hold_exception();
    }
}

inline int32_t call_tool_progress(void *user, std::uint64_t done, std::uint64_t total) noexcept {
    try {
        const auto &told = *static_cast<const std::function<bool(std::uint64_t, std::uint64_t)> *>(user);
        return told(done, total) ? 0 : 1;
    } catch (...) {
        return hold_exception();
    }
}

}  // namespace detail

/// Runs an analysis by name; `options_json` is an object, which options a tool takes is in the guides.
inline result run_tool(const model &on, const std::string &tool, const std::string &options_json = "{}",
                       const tool_inputs &given = {}) {
    mlxterp_tool_inputs inputs;
    detail::check(mlxterp_tool_inputs_init(&inputs));
    std::vector<const char *> names, patterns;
    std::vector<const mlxterp_array *> arrays;
    std::vector<const mlxterp_intervention *> interventions;
    for (const auto &[name, value] : given.arrays) {
        names.push_back(name.c_str());
        arrays.push_back(value->get());
    }
    for (const auto &[pattern, what] : given.interventions) {
        patterns.push_back(pattern.c_str());
        interventions.push_back(what->get());
    }
    inputs.array_names = names.data();
    inputs.arrays = arrays.data();
    inputs.array_count = names.size();
    inputs.patterns = patterns.data();
    inputs.interventions = interventions.data();
    inputs.intervention_count = patterns.size();
    if (given.metric) {
        inputs.metric = detail::call_metric;
        inputs.metric_user = const_cast<std::function<array(const trace &)> *>(&given.metric);
    }
    if (given.progress) {
        inputs.progress = detail::call_tool_progress;
        inputs.progress_user = const_cast<std::function<bool(std::uint64_t, std::uint64_t)> *>(&given.progress);
    }
    return result(detail::made<mlxterp_result>([&](auto out) {
        return mlxterp_tool_run(on.get(), tool.c_str(), options_json.c_str(), &inputs, out);
    }));
}

}  // namespace mlxterp

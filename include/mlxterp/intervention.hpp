/* Interventions: changes of a site's value, as values. */
#pragma once

#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "array.hpp"

namespace mlxterp {

/// What a hook is told besides the value.
struct event {
    /// Full name of the site.
    std::string site;
    /// Generation step; 0 in a plain forward.
    std::size_t step;
    /// Tokens of each row of the batch.
    std::vector<std::size_t> lengths;
};

namespace detail {

/// A callable on the heap, between the two functions that the C interface wants.
template <class F>
struct hook {
    static std::optional<array> run(F &f, const array &value, const mlxterp_event &told) {
        if constexpr (std::is_invocable_v<F &, const array &, const event &>) {
            const event about{told.site, told.step, {told.lengths, told.lengths + told.rows}};
            return f(value, about);
        } else {
            return f(value);
        }
    }

    static int32_t call(void *user, const mlxterp_event *told, mlxterp_array **out_value) noexcept {
        try {
            const array value(mlxterp_array_retain(told->value));
            std::optional<array> made = run(*static_cast<F *>(user), value, *told);
            if (made) {
                *out_value = made->release();
            }
            return MLXTERP_STATUS_OK;
        } catch (...) {
            return hold_exception();
        }
    }

    static void forget(void *user) noexcept { delete static_cast<F *>(user); }
};

}  // namespace detail

/// What is done to a value, and to which part of it. Immutable.
class intervention {
public:
    /// Takes a handle of the C interface over.
    explicit intervention(mlxterp_intervention *raw) noexcept : raw_(raw) {}

    /// Zeros in place of the value.
    static intervention zero_out() {
        return make([](auto out) { return mlxterp_intervention_zero_out(out); });
    }
    /// The value times a number.
    static intervention scale(double factor) {
        return make([&](auto out) { return mlxterp_intervention_scale(factor, out); });
    }
    /// The value plus a vector times a number.
    static intervention add_vector(const array &vector, double strength = 1.0) {
        return make([&](auto out) { return mlxterp_intervention_add_vector(vector.get(), strength, out); });
    }
    /// Another value in its place.
    static intervention replace_with(const array &value) {
        return make([&](auto out) { return mlxterp_intervention_replace_with(value.get(), out); });
    }
    /// Bounds; an infinite one is none.
    static intervention clamp(double low, double high = std::numeric_limits<double>::infinity()) {
        return make([&](auto out) { return mlxterp_intervention_clamp(low, high, out); });
    }
    /// Normal noise added; the same seed gives the same noise.
    static intervention noise(double std, std::uint64_t seed) {
        return make([&](auto out) { return mlxterp_intervention_noise(std, seed, out); });
    }
    /// Without the component along a direction, whose length does not matter.
    static intervention project_out(const array &direction) {
        return make([&](auto out) { return mlxterp_intervention_project_out(direction.get(), out); });
    }
    /// With the component along a direction set to a number.
    static intervention set_component(const array &direction, double value) {
        return make([&](auto out) { return mlxterp_intervention_set_component(direction.get(), value, out); });
    }
    /// One after another.
    static intervention compose(const std::vector<const intervention *> &parts) {
        std::vector<const mlxterp_intervention *> handles;
        for (const intervention *part : parts) {
            handles.push_back(part->get());
        }
        return make([&](auto out) { return mlxterp_intervention_compose(handles.data(), handles.size(), out); });
    }
    /// Whatever a callable makes of the value: `(const array &)` or `(const array &, const event &)`, giving an array or
    /// a std::optional<array>, empty for "unchanged". It may throw. It is destroyed when nothing needs it any more.
    template <class F>
    static intervention custom(const std::string &name, F function) {
        auto owner = std::make_unique<F>(std::move(function));
        F *user = owner.release();  // the library forgets it, on failure too
        return make([&](auto out) {
            return mlxterp_intervention_custom(name.c_str(), detail::hook<F>::call, user, detail::hook<F>::forget, out);
        });
    }
    /// From JSON such as `{"kind": "scale", "factor": 0.5, "positions": [-1]}`, or the short form `scale(0.5)`.
    static intervention from_json(const std::string &json) {
        return make([&](auto out) { return mlxterp_intervention_from_json(json.c_str(), out); });
    }

    /// The same on these rows only. Negative numbers count from the end.
    intervention rows(const std::vector<std::int64_t> &which) const { return select("rows", which); }
    /// The same at these positions only, negative from each row's own end.
    intervention positions(const std::vector<std::int64_t> &which) const { return select("positions", which); }
    /// The same on these heads only.
    intervention heads(const std::vector<std::int64_t> &which) const { return select("heads", which); }
    /// The same on these features of the last axis only.
    intervention neurons(const std::vector<std::int64_t> &which) const { return select("neurons", which); }

    /// As JSON; a custom one has none.
    std::string to_json() const {
        return detail::text([&](auto out) { return mlxterp_intervention_to_json(get(), out); });
    }
    /// In words.
    std::string describe() const {
        return detail::text([&](auto out) { return mlxterp_intervention_describe(get(), out); });
    }
    friend bool operator==(const intervention &a, const intervention &b) {
        return mlxterp_intervention_equal(a.get(), b.get());
    }
    friend bool operator!=(const intervention &a, const intervention &b) { return !(a == b); }

    /// For calls of the C interface; still owned here.
    mlxterp_intervention *get() const noexcept { return raw_.get(); }

    /// The same on one of "rows", "positions", "heads" and "neurons".
    intervention select(const char *axis, const std::vector<std::int64_t> &which) const {
        return make(
            [&](auto out) { return mlxterp_intervention_select(get(), axis, which.data(), which.size(), out); });
    }

private:
    template <class Call>
    static intervention make(Call call) {
        return intervention(detail::made<mlxterp_intervention>(call));
    }

    detail::handle<mlxterp_intervention, mlxterp_intervention_free> raw_;
};

}  // namespace mlxterp

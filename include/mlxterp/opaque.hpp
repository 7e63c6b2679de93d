/* Opaque modules: what a description leaves to the program. */
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "array.hpp"

namespace mlxterp {

/// What the function of an opaque module is told besides its inputs.
struct opaque_call {
    /// Path of the module.
    std::string path;
    /// How many values the description wants back.
    std::size_t output_count;
    /// Positions of each row that are no padding.
    std::vector<std::size_t> lengths;
};

namespace detail {

template <class F>
struct opaque_hook {
    static int32_t call(void *user, const mlxterp_opaque_call *told, mlxterp_array **out_values) noexcept {
        try {
            std::vector<array> inputs;
            for (std::size_t i = 0; i < told->input_count; i++) {
                inputs.emplace_back(mlxterp_array_retain(told->inputs[i]));
            }
            const opaque_call about{told->path, told->output_count, {told->lengths, told->lengths + told->rows}};
            std::vector<array> made = (*static_cast<F *>(user))(inputs, about);
            if (made.size() != told->output_count) {
                throw error(MLXTERP_STATUS_CALLBACK,
                            "the function of '" + about.path + "' gave " + std::to_string(made.size()) +
                                " values, the description wants " + std::to_string(told->output_count),
                            about.path);
            }
            for (std::size_t i = 0; i < made.size(); i++) {
                out_values[i] = made[i].release();
            }
            return MLXTERP_STATUS_OK;
        } catch (...) {
            return hold_exception();
        }
    }

    static void forget(void *user) noexcept { delete static_cast<F *>(user); }
};

}  // namespace detail

/// A callable `(const std::vector<array> &, const opaque_call &) -> std::vector<array>` that computes an opaque module. It
/// may be called again for the same run, and must depend on nothing but its inputs. It may throw.
class opaque {
public:
    template <class F>
    static opaque from(F function) {
        F *user = std::make_unique<F>(std::move(function)).release();  // the library forgets it, on failure too
        return opaque(detail::made<mlxterp_opaque>([&](auto out) {
            return mlxterp_opaque_new(detail::opaque_hook<F>::call, user, detail::opaque_hook<F>::forget, out);
        }));
    }

    /// For calls of the C interface; still owned here.
    mlxterp_opaque *get() const noexcept { return raw_.get(); }

private:
    explicit opaque(mlxterp_opaque *raw) noexcept : raw_(raw) {}

    detail::handle<mlxterp_opaque, mlxterp_opaque_free> raw_;
};

}  // namespace mlxterp

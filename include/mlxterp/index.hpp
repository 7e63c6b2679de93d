/* Subscripts, as numpy has them. */
#pragma once

#include <cstdint>
#include <optional>

#include "../mlxterp.h"

namespace mlxterp {

/// One subscript: a number (the axis goes), a slice, all of an axis, every axis not named, or a new axis.
struct index : mlxterp_index {
    /// One element, negative from the end.
    index(std::int64_t at) noexcept : mlxterp_index{MLXTERP_INDEX_AT, 0, at, 0, 1} {}
    index(int at) noexcept : index(static_cast<std::int64_t>(at)) {}
    explicit index(const mlxterp_index &raw) noexcept : mlxterp_index(raw) {}
};

/// `start:stop:step`; what is left out is the axis's own end.
inline index slice(std::optional<std::int64_t> start, std::optional<std::int64_t> stop = std::nullopt,
                   std::int64_t step = 1) noexcept {
    return index(mlxterp_index{MLXTERP_INDEX_SLICE, 0, start.value_or(MLXTERP_INDEX_NONE),
                               stop.value_or(MLXTERP_INDEX_NONE), step});
}

/// A whole axis.
inline const index all = slice(std::nullopt);

/// All axes that no other subscript names.
inline const index ellipsis{mlxterp_index{MLXTERP_INDEX_ELLIPSIS, 0, 0, 0, 1}};

/// A new axis of length 1.
inline const index new_axis{mlxterp_index{MLXTERP_INDEX_NEW_AXIS, 0, 0, 0, 1}};

}  // namespace mlxterp

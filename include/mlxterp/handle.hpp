/* Owning a handle of the C interface. */
#pragma once

#include <string>
#include <utility>

#include "error.hpp"

namespace mlxterp {
namespace detail {

/// One handle, freed exactly once. Moved, not copied.
template <class T, void (*Free)(T *)>
class handle {
public:
    handle() noexcept = default;
    explicit handle(T *raw) noexcept : raw_(raw) {}
    handle(handle &&other) noexcept : raw_(other.release()) {}
    handle &operator=(handle &&other) noexcept {
        if (this != &other) {
            Free(std::exchange(raw_, other.release()));
        }
        return *this;
    }
    handle(const handle &) = delete;
    handle &operator=(const handle &) = delete;
    ~handle() { Free(raw_); }

    /// For calls of the C interface; still owned here.
    T *get() const noexcept { return raw_; }

    /// Gives the handle away.
    T *release() noexcept { return std::exchange(raw_, nullptr); }

private:
    T *raw_ = nullptr;
};

/// The handle that a call puts into its last argument.
template <class T, class Call>
T *made(Call call, const std::string &site = {}) {
    T *out = nullptr;
    check(call(&out), site);
    return out;
}

/// The text that a call puts into its last argument.
template <class Call>
std::string text(Call call, const std::string &site = {}) {
    struct Given {
        char *raw = nullptr;
        ~Given() { mlxterp_string_free(raw); }
    } given;
    check(call(&given.raw), site);
    return given.raw;
}

}  // namespace detail

/// Handles alive in this process, those of every front end: what a leak test counts.
inline std::size_t live_handles() noexcept { return mlxterp_live_handles(); }

/// Bytes that MLX holds in live arrays.
inline std::size_t memory_used() noexcept { return mlxterp_memory_used(); }

/// The library's version, such as "0.1.0".
inline std::string version() { return mlxterp_version(); }

/// Where MLX computes: "cpu", "metal" or "cuda".
inline std::string backend() { return mlxterp_backend(); }

}  // namespace mlxterp

/* What can go wrong, and how a status becomes an exception. */
#pragma once

#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

#include "../mlxterp.h"

namespace mlxterp {

/// Any failure of the library. what() names the value that was wrong and the way out.
class error : public std::runtime_error {
public:
    error(mlxterp_status status, const std::string &message, std::string site)
        : std::runtime_error(message), status_(status), site_(std::move(site)) {}

    /// Which kind of failure.
    mlxterp_status status() const noexcept { return status_; }

    /// The site or pattern that was asked for; empty where none was.
    const std::string &site() const noexcept { return site_; }

private:
    mlxterp_status status_;
    std::string site_;
};

namespace detail {

/// The exception of a function that the library called on this thread, on its way to the call that led there.
inline std::exception_ptr &pending() noexcept {
    thread_local std::exception_ptr exception;
    return exception;
}

/// To be called in a handler: keeps the exception, and gives the status that stops the library.
inline int32_t hold_exception() noexcept {
    pending() = std::current_exception();
    return MLXTERP_STATUS_CALLBACK;
}

[[noreturn]] inline void fail(mlxterp_status status, const std::string &site) {
    std::exception_ptr own = std::exchange(pending(), nullptr);
    if (status == MLXTERP_STATUS_CALLBACK && own) {
        std::rethrow_exception(own);
    }
    throw error(status, mlxterp_last_error_message(), site);
}

inline void check(mlxterp_status status) {
    if (status != MLXTERP_STATUS_OK) {
        fail(status, {});
    }
}

inline void check(mlxterp_status status, const std::string &site) {
    if (status != MLXTERP_STATUS_OK) {
        fail(status, site);
    }
}

}  // namespace detail
}  // namespace mlxterp

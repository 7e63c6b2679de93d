/* Traces: one forward pass, read and changed by name. */
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "intervention.hpp"

namespace mlxterp {

class model;
class trace;

/// Token ids of one prompt or several, padded on the right.
class batch {
public:
    /// Takes a handle of the C interface over.
    explicit batch(mlxterp_batch *raw) noexcept : raw_(raw) {}

    /// Number of rows.
    std::size_t size() const noexcept { return mlxterp_batch_count(get()); }
    /// Positions of the longest row.
    std::size_t width() const noexcept { return mlxterp_batch_width(get()); }
    /// Tokens of each row.
    std::vector<std::size_t> lengths() const {
        const std::size_t *first = mlxterp_batch_lengths(get());
        return {first, first + size()};
    }
    /// The ids [row, position], int32.
    array ids() const {
        return array(detail::made<mlxterp_array>([&](auto out) { return mlxterp_batch_ids(get(), out); }));
    }

    /// For calls of the C interface; still owned here.
    mlxterp_batch *get() const noexcept { return raw_.get(); }

private:
    detail::handle<mlxterp_batch, mlxterp_batch_free> raw_;
};

/// What a model remembers after some tokens. Each trace that was started with one gives a new one.
class cache {
public:
    /// One that has seen no tokens.
    cache() : raw_(detail::made<mlxterp_cache>([](auto out) { return mlxterp_cache_empty(out); })) {}
    /// Takes a handle of the C interface over.
    explicit cache(mlxterp_cache *raw) noexcept : raw_(raw) {}

    /// Tokens that each row has seen; empty when it has seen none.
    std::vector<std::size_t> lengths() const {
        std::size_t rows = 0;
        detail::check(mlxterp_cache_lengths(get(), nullptr, 0, &rows));
        std::vector<std::size_t> seen(rows);
        detail::check(mlxterp_cache_lengths(get(), seen.data(), seen.size(), &rows));
        return seen;
    }
    /// Computes what it remembers, so that the graph behind it can be freed.
    void eval() const { detail::check(mlxterp_cache_eval(get())); }
    /// Bytes that its arrays hold, or will hold once they are computed.
    std::size_t byte_size() const noexcept { return mlxterp_cache_byte_size(get()); }

    /// For calls of the C interface; still owned here.
    mlxterp_cache *get() const noexcept { return raw_.get(); }

private:
    detail::handle<mlxterp_cache, mlxterp_cache_free> raw_;
};

/// A site of a trace, or part of it: read, assigned, or changed in place. Lives no longer than its trace.
class site {
public:
    /// The value, lazily. Whole sites only: index the value for a part.
    array read() const;
    operator array() const { return read(); }

    /// Puts a value in the site's place; everything after sees it.
    const site &operator=(const array &value) const;
    /// Applies an intervention.
    const site &operator=(const intervention &change) const { return apply(change); }
    const site &operator=(const site &other) const { return *this = other.read(); }
    const site &operator+=(const array &vector) const { return apply(intervention::add_vector(vector)); }
    const site &operator-=(const array &vector) const { return apply(intervention::add_vector(vector, -1.0)); }
    const site &operator*=(double factor) const { return apply(intervention::scale(factor)); }

    /// The same site on these rows, positions (negative from each row's own end), heads or features only.
    site rows(std::vector<std::int64_t> which) const { return narrowed("rows", std::move(which)); }
    site positions(std::vector<std::int64_t> which) const { return narrowed("positions", std::move(which)); }
    site heads(std::vector<std::int64_t> which) const { return narrowed("heads", std::move(which)); }
    site neurons(std::vector<std::int64_t> which) const { return narrowed("neurons", std::move(which)); }

    site(const site &) = default;

private:
    friend class trace;
    using selection = std::vector<std::pair<const char *, std::vector<std::int64_t>>>;
    site(const mlxterp_trace *trace, std::string name) : trace_(trace), name_(std::move(name)) {}
    const site &apply(const intervention &change) const;
    site narrowed(const char *axis, std::vector<std::int64_t> which) const {
        site part = *this;
        part.selected_.emplace_back(axis, std::move(which));
        return part;
    }

    const mlxterp_trace *trace_;
    std::string name_;
    selection selected_;
};

/// A forward pass over a batch: built lazily, changed anywhere, read at any time. Keeps its model alive.
class trace {
public:
    /// Takes a handle of the C interface over.
    explicit trace(mlxterp_trace *raw) noexcept : raw_(raw) {}

    /// A site by name, such as "layers.3.attn.output": read it, assign to it.
    site operator[](std::string name) const { return site(get(), std::move(name)); }

    /// The value of a site, lazily.
    array read(const std::string &name) const {
        mlxterp_array *out = nullptr;
        detail::check(mlxterp_trace_read(get(), name.c_str(), &out), name);
        return array(out);
    }
    /// Puts a value in a site's place.
    void write(const std::string &name, const array &value) const {
        detail::check(mlxterp_trace_write(get(), name.c_str(), value.get()), name);
    }
    /// Puts a value in part of a site's place.
    void write_at(const std::string &name, std::initializer_list<index> at, const array &value) const {
        const std::vector<mlxterp_index> raw(at.begin(), at.end());
        detail::check(mlxterp_trace_write_at(get(), name.c_str(), raw.data(), raw.size(), value.get()), name);
    }
    /// Applies an intervention to every site that a name or pattern means.
    void intervene(const std::string &pattern, const intervention &change) const {
        detail::check(mlxterp_trace_intervene(get(), pattern.c_str(), change.get()), pattern);
    }
    /// A second continuation that shares everything built so far. In it anything may be written.
    trace fork() const {
        return trace(detail::made<mlxterp_trace>([&](auto out) { return mlxterp_trace_fork(get(), out); }));
    }
    /// A fork whose batch is this one's `n` times over.
    trace fork_rows(std::size_t n) const {
        return trace(detail::made<mlxterp_trace>([&](auto out) { return mlxterp_trace_fork_rows(get(), n, out); }));
    }
    /// One receipt a write, as a JSON list.
    std::string receipts_json() const {
        return detail::text([&](auto out) { return mlxterp_trace_receipts_json(get(), out); });
    }
    /// The tokens of the trace.
    class batch batch() const {
        return mlxterp::batch(detail::made<mlxterp_batch>([&](auto out) { return mlxterp_trace_batch(get(), out); }));
    }
    /// What the model remembers after this trace's tokens; the trace must have been started with a cache.
    class cache cache() const {
        return mlxterp::cache(detail::made<mlxterp_cache>([&](auto out) { return mlxterp_trace_cache(get(), out); }));
    }
    /// Ends the block: a strict trace refuses here a write that changed or reached nothing.
    void finish() const { detail::check(mlxterp_trace_finish(get())); }

    /// For calls of the C interface; still owned here.
    mlxterp_trace *get() const noexcept { return raw_.get(); }

private:
    detail::handle<mlxterp_trace, mlxterp_trace_free> raw_;
};

inline array site::read() const {
    if (!selected_.empty()) {
        throw error(MLXTERP_STATUS_INVALID_ARGUMENT,
                    "part of '" + name_ + "' is read by indexing the whole: trace[\"" + name_ + "\"].read()[{...}]", name_);
    }
    mlxterp_array *out = nullptr;
    detail::check(mlxterp_trace_read(trace_, name_.c_str(), &out), name_);
    return array(out);
}

inline const site &site::operator=(const array &value) const {
    if (!selected_.empty()) {
        return apply(intervention::replace_with(value));
    }
    detail::check(mlxterp_trace_write(trace_, name_.c_str(), value.get()), name_);
    return *this;
}

inline const site &site::apply(const intervention &change) const {
    const mlxterp_intervention *what = change.get();
    std::vector<intervention> narrowed;
    for (const auto &[axis, which] : selected_) {
        narrowed.emplace_back(detail::made<mlxterp_intervention>(
            [&, axis = axis, &which = which](auto out) {
                return mlxterp_intervention_select(what, axis, which.data(), which.size(), out);
            },
            name_));
        what = narrowed.back().get();
    }
    detail::check(mlxterp_trace_intervene(trace_, name_.c_str(), what), name_);
    return *this;
}

}  // namespace mlxterp

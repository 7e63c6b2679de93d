/* Arrays: lazy, immutable values. */
#pragma once

#include <complex>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "handle.hpp"
#include "index.hpp"

namespace mlxterp {

/// The dtype whose elements a C++ type is.
template <class T>
struct dtype_of;
template <> struct dtype_of<bool> { static constexpr mlxterp_dtype value = MLXTERP_DTYPE_BOOL; };
template <> struct dtype_of<std::uint8_t> { static constexpr mlxterp_dtype value = MLXTERP_DTYPE_UINT8; };
template <> struct dtype_of<std::uint16_t> { static constexpr mlxterp_dtype value = MLXTERP_DTYPE_UINT16; };
template <> struct dtype_of<std::uint32_t> { static constexpr mlxterp_dtype value = MLXTERP_DTYPE_UINT32; };
template <> struct dtype_of<std::uint64_t> { static constexpr mlxterp_dtype value = MLXTERP_DTYPE_UINT64; };
template <> struct dtype_of<std::int8_t> { static constexpr mlxterp_dtype value = MLXTERP_DTYPE_INT8; };
template <> struct dtype_of<std::int16_t> { static constexpr mlxterp_dtype value = MLXTERP_DTYPE_INT16; };
template <> struct dtype_of<std::int32_t> { static constexpr mlxterp_dtype value = MLXTERP_DTYPE_INT32; };
template <> struct dtype_of<std::int64_t> { static constexpr mlxterp_dtype value = MLXTERP_DTYPE_INT64; };
template <> struct dtype_of<float> { static constexpr mlxterp_dtype value = MLXTERP_DTYPE_FLOAT32; };
template <> struct dtype_of<double> { static constexpr mlxterp_dtype value = MLXTERP_DTYPE_FLOAT64; };
template <> struct dtype_of<std::complex<float>> { static constexpr mlxterp_dtype value = MLXTERP_DTYPE_COMPLEX64; };

/// A lazy value. Operators build; eval(), data() and to_vector() compute.
class array {
public:
    /// No value. Only for a variable that is assigned later.
    array() noexcept = default;

    /// Takes a handle of the C interface over.
    explicit array(mlxterp_array *raw) noexcept : raw_(raw) {}

    /// A copy of elements in row-major order, as many as the shape says.
    template <class T>
    static array from(const std::vector<T> &elements, const std::vector<std::int64_t> &shape) {
        std::int64_t count = 1;
        for (std::int64_t n : shape) {
            count *= n;
        }
        if (count < 0 || static_cast<std::size_t>(count) != elements.size()) {
            throw error(MLXTERP_STATUS_SHAPE,
                        "the shape asks for " + std::to_string(count) + " elements, not " +
                            std::to_string(elements.size()),
                        {});
        }
        return array(detail::made<mlxterp_array>([&](auto out) {
            return mlxterp_array_from_data(elements.data(), shape.data(), shape.size(), dtype_of<T>::value, out);
        }));
    }

    /// Elements of one axis, copied.
    template <class T>
    static array from(const std::vector<T> &elements) {
        return from(elements, {static_cast<std::int64_t>(elements.size())});
    }

    /// The very elements of a vector, kept until nothing needs them. Copied where the backend cannot share them: see
    /// is_shared.
    template <class T>
    static array adopt(std::vector<T> elements, const std::vector<std::int64_t> &shape) {
        std::int64_t count = 1;
        for (std::int64_t n : shape) {
            count *= n;
        }
        if (count < 0 || static_cast<std::size_t>(count) != elements.size()) {
            return from(elements, shape);  // its error
        }
        auto owner = std::make_unique<std::vector<T>>(std::move(elements));
        T *data = owner->data();
        void *user = owner.release();
        auto forget = [](void *given) { delete static_cast<std::vector<T> *>(given); };
        return array(detail::made<mlxterp_array>([&](auto out) {
            return mlxterp_array_adopt(data, shape.data(), shape.size(), dtype_of<T>::value, user, forget, out);
        }));
    }

    /// One number.
    static array scalar(double value, mlxterp_dtype dtype = MLXTERP_DTYPE_FLOAT32) {
        return array(detail::made<mlxterp_array>([&](auto out) { return mlxterp_array_scalar(value, dtype, out); }));
    }

    /// An array filled with one number.
    static array full(const std::vector<std::int64_t> &shape, double value,
                      mlxterp_dtype dtype = MLXTERP_DTYPE_FLOAT32) {
        return array(detail::made<mlxterp_array>(
            [&](auto out) { return mlxterp_array_full(shape.data(), shape.size(), value, dtype, out); }));
    }

    /// A second handle on the same value.
    array share() const { return array(mlxterp_array_retain(get())); }

    // What never waits.

    std::vector<std::int64_t> shape() const {
        const std::int64_t *lengths = mlxterp_array_shape(get());
        return lengths == nullptr ? std::vector<std::int64_t>() : std::vector<std::int64_t>(lengths, lengths + ndim());
    }
    std::size_t ndim() const noexcept { return mlxterp_array_ndim(get()); }
    std::size_t size() const noexcept { return mlxterp_array_size(get()); }
    std::size_t byte_size() const noexcept { return mlxterp_array_byte_size(get()); }
    mlxterp_dtype dtype() const noexcept { return static_cast<mlxterp_dtype>(mlxterp_array_dtype(get())); }
    bool is_evaluated() const noexcept { return mlxterp_array_is_evaluated(get()); }

    // What computes.

    /// Computes the value.
    const array &eval() const {
        detail::check(mlxterp_array_eval(get()));
        return *this;
    }

    /// The first element in the buffer that MLX itself uses, computed. It lives as long as any handle on the value.
    /// Elements may be strided: take contiguous() first unless they are known not to be.
    template <class T>
    const T *data() const {
        if (dtype_of<T>::value != dtype()) {
            throw error(MLXTERP_STATUS_INVALID_ARGUMENT, "data of another dtype was asked for: cast the array first", {});
        }
        eval();
        const void *address = nullptr;
        detail::check(mlxterp_array_data(get(), &address));
        return static_cast<const T *>(address);
    }

    /// Steps between neighbours along each axis, in elements; empty before eval.
    std::vector<std::int64_t> strides() const {
        const std::int64_t *steps = mlxterp_array_strides(get());
        return steps == nullptr ? std::vector<std::int64_t>() : std::vector<std::int64_t>(steps, steps + ndim());
    }

    /// The elements in row-major order, converted.
    template <class T>
    std::vector<T> to_vector() const {
        array dense = (dtype() == dtype_of<T>::value ? share() : cast(dtype_of<T>::value)).contiguous();
        const T *first = dense.template data<T>();
        return std::vector<T>(first, first + dense.size());
    }

    /// The only element, converted.
    template <class T>
    T item() const {
        if (size() != 1) {
            throw error(MLXTERP_STATUS_SHAPE, "an array of " + std::to_string(size()) + " elements is not one number", {});
        }
        return to_vector<T>().front();
    }

    /// In row-major order without gaps: copies only when it must.
    array contiguous() const {
        return array(detail::made<mlxterp_array>([&](auto out) { return mlxterp_array_contiguous(get(), out); }));
    }

    /// Whether the value lies in the very memory at an address.
    bool is_shared(const void *address) const noexcept { return mlxterp_array_is_shared(get(), address); }

    /// In words.
    std::string describe() const {
        return detail::text([&](auto out) { return mlxterp_array_describe(get(), out); });
    }

    // Lazy operators.

    array unary(mlxterp_unary op) const {
        return array(detail::made<mlxterp_array>([&](auto out) { return mlxterp_array_unary(op, get(), out); }));
    }
    array binary(mlxterp_binary op, const array &other) const {
        return array(
            detail::made<mlxterp_array>([&](auto out) { return mlxterp_array_binary(op, get(), other.get(), out); }));
    }
    array reduce(mlxterp_reduce op, std::int64_t axis, bool keep_axis = false) const {
        return array(
            detail::made<mlxterp_array>([&](auto out) { return mlxterp_array_reduce(op, get(), axis, keep_axis, out); }));
    }
    /// A number in the dtype that lets it meet this array.
    array like(double value) const {
        return array(
            detail::made<mlxterp_array>([&](auto out) { return mlxterp_array_scalar_like(value, get(), out); }));
    }
    array sum(std::int64_t axis, bool keep = false) const { return reduce(MLXTERP_REDUCE_SUM, axis, keep); }
    array mean(std::int64_t axis, bool keep = false) const { return reduce(MLXTERP_REDUCE_MEAN, axis, keep); }
    array max(std::int64_t axis, bool keep = false) const { return reduce(MLXTERP_REDUCE_MAX, axis, keep); }
    array norm(std::int64_t axis, bool keep = false) const { return reduce(MLXTERP_REDUCE_NORM, axis, keep); }
    array argmax(std::int64_t axis, bool keep = false) const { return reduce(MLXTERP_REDUCE_ARGMAX, axis, keep); }
    array softmax(std::int64_t axis = -1) const {
        return array(detail::made<mlxterp_array>([&](auto out) { return mlxterp_array_softmax(get(), axis, out); }));
    }
    array cast(mlxterp_dtype dtype) const {
        return array(detail::made<mlxterp_array>([&](auto out) { return mlxterp_array_cast(get(), dtype, out); }));
    }
    array reshape(const std::vector<std::int64_t> &shape) const {
        return array(detail::made<mlxterp_array>(
            [&](auto out) { return mlxterp_array_reshape(get(), shape.data(), shape.size(), out); }));
    }
    array transpose(const std::vector<std::int64_t> &axes) const {
        return array(detail::made<mlxterp_array>(
            [&](auto out) { return mlxterp_array_transpose(get(), axes.data(), axes.size(), out); }));
    }
    array matmul(const array &other) const { return binary(MLXTERP_BINARY_MATMUL, other); }
    /// Indices of the greatest elements of the last axis, the greatest first.
    array topk(std::size_t k) const {
        return array(detail::made<mlxterp_array>([&](auto out) { return mlxterp_array_topk(get(), k, out); }));
    }
    array take(const array &indices, std::int64_t axis) const {
        return array(
            detail::made<mlxterp_array>([&](auto out) { return mlxterp_array_take(get(), indices.get(), axis, out); }));
    }

    /// Part of the array: `a[{0, -1}]`, `a[{all, slice(1, 3)}]`, without copying.
    array operator[](std::initializer_list<index> at) const {
        const std::vector<mlxterp_index> raw(at.begin(), at.end());
        return array(
            detail::made<mlxterp_array>([&](auto out) { return mlxterp_array_index(get(), raw.data(), raw.size(), out); }));
    }

    /// A new array with another value (broadcast) at the subscripts.
    array with(std::initializer_list<index> at, const array &value) const {
        const std::vector<mlxterp_index> raw(at.begin(), at.end());
        return array(detail::made<mlxterp_array>(
            [&](auto out) { return mlxterp_array_index_update(get(), raw.data(), raw.size(), value.get(), out); }));
    }

    /// For calls of the C interface; still owned here.
    mlxterp_array *get() const noexcept { return raw_.get(); }

    /// Gives the handle away.
    mlxterp_array *release() noexcept { return raw_.release(); }

private:
    detail::handle<mlxterp_array, mlxterp_array_free> raw_;
};

inline array operator+(const array &a, const array &b) { return a.binary(MLXTERP_BINARY_ADD, b); }
inline array operator-(const array &a, const array &b) { return a.binary(MLXTERP_BINARY_SUBTRACT, b); }
inline array operator*(const array &a, const array &b) { return a.binary(MLXTERP_BINARY_MULTIPLY, b); }
inline array operator/(const array &a, const array &b) { return a.binary(MLXTERP_BINARY_DIVIDE, b); }
inline array operator+(const array &a, double b) { return a + a.like(b); }
inline array operator-(const array &a, double b) { return a - a.like(b); }
inline array operator*(const array &a, double b) { return a * a.like(b); }
inline array operator/(const array &a, double b) { return a / a.like(b); }
inline array operator+(double a, const array &b) { return b.like(a) + b; }
inline array operator-(double a, const array &b) { return b.like(a) - b; }
inline array operator*(double a, const array &b) { return b.like(a) * b; }
inline array operator/(double a, const array &b) { return b.like(a) / b; }
inline array operator-(const array &a) { return a.unary(MLXTERP_UNARY_NEGATIVE); }

namespace detail {
inline std::vector<const mlxterp_array *> raw(const std::vector<const array *> &arrays) {
    std::vector<const mlxterp_array *> handles;
    for (const array *a : arrays) {
        handles.push_back(a->get());
    }
    return handles;
}
}  // namespace detail

/// Computes several values together; what they share is computed once.
inline void eval(const std::vector<const array *> &arrays) {
    const auto handles = detail::raw(arrays);
    detail::check(mlxterp_array_eval_all(handles.data(), handles.size()));
}

/// Arrays joined along an axis.
inline array concatenate(const std::vector<const array *> &arrays, std::int64_t axis) {
    const auto handles = detail::raw(arrays);
    return array(detail::made<mlxterp_array>(
        [&](auto out) { return mlxterp_array_concatenate(handles.data(), handles.size(), axis, out); }));
}

/// Arrays of one shape joined along a new axis.
inline array stack(const std::vector<const array *> &arrays, std::int64_t axis) {
    const auto handles = detail::raw(arrays);
    return array(detail::made<mlxterp_array>(
        [&](auto out) { return mlxterp_array_stack(handles.data(), handles.size(), axis, out); }));
}

/// `condition ? a : b`, broadcast.
inline array where(const array &condition, const array &a, const array &b) {
    return array(detail::made<mlxterp_array>(
        [&](auto out) { return mlxterp_array_where(condition.get(), a.get(), b.get(), out); }));
}

}  // namespace mlxterp

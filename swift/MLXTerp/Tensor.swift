import CMLXTerp

/// A lazy, immutable value.
///
/// Operators build; nothing is computed before ``eval()``, ``array(of:)``, ``item(as:)``, ``data()`` or
/// ``withUnsafeBytes(_:)`` looks at elements. Shape and dtype are known at once.
public final class Tensor: @unchecked Sendable {
    // Handles may be used from any thread (mlxterp.h), and nothing here changes after init.
    let raw: OpaquePointer

    init(_ raw: OpaquePointer) { self.raw = raw }

    deinit { mlxterp_array_free(raw) }

    /// Length of each axis.
    public var shape: [Int] {
        guard let lengths = mlxterp_array_shape(raw) else { return [] }
        return (0..<ndim).map { Int(lengths[$0]) }
    }

    /// Number of axes.
    public var ndim: Int { mlxterp_array_ndim(raw) }

    /// Number of elements.
    public var count: Int { mlxterp_array_size(raw) }

    /// Bytes of all elements.
    public var byteCount: Int { mlxterp_array_byte_size(raw) }

    /// Element type.
    public var dtype: DType { DType(rawValue: mlxterp_array_dtype(raw)) ?? .float32 }

    /// Whether the value has been computed.
    public var isEvaluated: Bool { mlxterp_array_is_evaluated(raw) }

    /// Steps between neighbours along each axis, in elements; `nil` before the value is computed.
    public var strides: [Int]? {
        guard let steps = mlxterp_array_strides(raw) else { return nil }
        return (0..<ndim).map { Int(steps[$0]) }
    }

    /// Whether the elements lie in row-major order without gaps; `nil` before the value is computed.
    public var isContiguous: Bool? {
        guard let strides else { return nil }
        var step = 1
        for (length, stride) in zip(shape, strides).reversed() where length != 1 {
            if stride != step { return count == 0 }
            step *= length
        }
        return true
    }

    /// Computes the value.
    @discardableResult
    public func eval() throws -> Tensor {
        try check(mlxterp_array_eval(raw))
        return self
    }

    /// Computes several values together; what they share is computed once.
    public static func eval(_ tensors: [Tensor]) throws {
        try check(tensors.withHandles { mlxterp_array_eval_all($0, $1) })
    }

    /// The same value in row-major order without gaps: copies only when it must.
    public func contiguous() throws -> Tensor {
        Tensor(try made { mlxterp_array_contiguous(raw, $0) })
    }
}

extension Tensor: CustomStringConvertible {
    /// Shape, dtype, and the values when they are computed and few.
    public var description: String {
        (try? text { mlxterp_array_describe(raw, $0) }) ?? "Tensor(\(dtype), \(shape))"
    }
}

extension [Tensor] {
    /// The handles, alive during the call.
    func withHandles<R>(_ body: (UnsafePointer<OpaquePointer?>?, Int) throws -> R) rethrows -> R {
        try withExtendedLifetime(self) {
            try map { Optional($0.raw) }.withUnsafeBufferPointer { try body($0.baseAddress, $0.count) }
        }
    }
}

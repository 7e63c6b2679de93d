import CMLXTerp
import Foundation

/// Elements in and out. Each member says whether it copies.
extension Tensor {
    /// A copy of elements in row-major order, as many as the shape says; one axis without a shape.
    public convenience init<T: TensorElement>(_ elements: [T], shape: [Int]? = nil) throws {
        let shape = try Tensor.checked(shape ?? [elements.count], count: elements.count)
        let raw = try elements.withUnsafeBytes { bytes in
            try made { mlxterp_array_from_data(bytes.baseAddress, shape, shape.count, T.dtype.rawValue, $0) }
        }
        self.init(raw)
    }

    /// One number.
    public convenience init(_ value: Double, dtype: DType = .float32) throws {
        self.init(try made { mlxterp_array_scalar(value, dtype.rawValue, $0) })
    }

    /// A tensor filled with one number.
    public convenience init(filledWith value: Double, shape: [Int], dtype: DType = .float32) throws {
        let lengths = shape.map(Int64.init)
        self.init(try made { mlxterp_array_full(lengths, lengths.count, value, dtype.rawValue, $0) })
    }

    /// A tensor over memory that you own, without a copy where the backend can share it: see ``isShared(with:)``.
    ///
    /// `deallocator` is called exactly once, from any thread, when nothing needs the memory any more; also when this
    /// throws. Until then the memory must not change.
    public convenience init(
        bytesNoCopy bytes: UnsafeMutableRawBufferPointer, shape: [Int], dtype: DType,
        deallocator: @escaping @Sendable () -> Void
    ) throws {
        final class Owner: Sendable {
            let deallocator: @Sendable () -> Void
            init(_ deallocator: @escaping @Sendable () -> Void) { self.deallocator = deallocator }
        }
        let lengths = shape.map(Int64.init)
        let needed = try shape.reduce(dtype.byteCount) { total, length in
            let (bytes, overflow) = total.multipliedReportingOverflow(by: length)
            if overflow || length < 0 {
                deallocator()
                throw MLXTerpError(.shape, "no memory has the shape \(shape)")
            }
            return bytes
        }
        if needed != bytes.count {
            deallocator()
            throw MLXTerpError(.shape, "\(dtype) of shape \(shape) takes \(needed) bytes, not \(bytes.count)")
        }
        let owner = Unmanaged.passRetained(Owner(deallocator)).toOpaque()
        let raw = try made {
            mlxterp_array_adopt(
                bytes.baseAddress, lengths, lengths.count, dtype.rawValue, owner,
                { user in
                    let owner = Unmanaged<Owner>.fromOpaque(user!).takeRetainedValue()
                    owner.deallocator()
                }, $0)
        }
        self.init(raw)
    }

    private static func checked(_ shape: [Int], count: Int) throws -> [Int64] {
        let asked = shape.reduce(1) { $0.multipliedReportingOverflow(by: $1).partialValue }
        if asked != count || shape.contains(where: { $0 < 0 }) {
            throw MLXTerpError(.shape, "the shape \(shape) asks for \(asked) elements, not \(count)")
        }
        return shape.map(Int64.init)
    }

    /// Computes the value and shows its bytes in the very buffer that MLX uses. No copy; valid during the call.
    ///
    /// A view that is not in row-major order has no bytes to show in one piece: take ``contiguous()`` first.
    public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) throws -> R {
        try eval()
        guard isContiguous == true else {
            throw MLXTerpError(
                .unsupported,
                "a tensor of shape \(shape) and strides \(strides ?? []) is not in row-major order: call contiguous() first")
        }
        var address: UnsafeRawPointer?
        try check(mlxterp_array_data(raw, &address))
        return try withExtendedLifetime(self) {
            try body(UnsafeRawBufferPointer(start: address, count: byteCount))
        }
    }

    /// Computes the value and shows its elements in the very buffer that MLX uses. No copy; valid during the call.
    public func withUnsafeElements<T: TensorElement, R>(
        of type: T.Type, _ body: (UnsafeBufferPointer<T>) throws -> R
    ) throws -> R {
        if T.dtype != dtype {
            throw MLXTerpError(.invalidArgument, "the elements are \(dtype), not \(T.dtype): cast(to: .\(T.dtype)) first")
        }
        return try withUnsafeBytes { try body($0.bindMemory(to: T.self)) }
    }

    /// A copy of the bytes in row-major order.
    public func data() throws -> Data {
        try contiguous().withUnsafeBytes { Data($0) }
    }

    /// The bytes as `Data` over the very buffer, which lives as long as the `Data`. No copy where ``isContiguous``.
    ///
    /// To be read, not changed: outside of Apple's platforms Foundation changes such a `Data` in place, and with it the
    /// tensor. Where it will be changed, take ``data()``.
    public func dataNoCopy() throws -> Data {
        let dense = try contiguous()
        return try dense.withUnsafeBytes { bytes in
            guard let address = bytes.baseAddress, bytes.count > 0 else { return Data() }
            let memory = UnsafeMutableRawPointer(mutating: address)
            #if canImport(Darwin)
            // NSData is immutable: a Data that refers to one copies before a change.
            return Data(
                referencing: NSData(
                    bytesNoCopy: memory, length: bytes.count, deallocator: { _, _ in withExtendedLifetime(dense) {} }))
            #else
            return Data(
                bytesNoCopy: memory, count: bytes.count,
                deallocator: .custom { _, _ in withExtendedLifetime(dense) {} })
            #endif
        }
    }

    /// The elements in row-major order, converted and copied.
    public func array<T: TensorElement>(of type: T.Type = T.self) throws -> [T] {
        let same = dtype == T.dtype ? self : try cast(to: T.dtype)
        return try same.contiguous().withUnsafeElements(of: T.self) { [T]($0) }
    }

    /// The only element, converted.
    public func item<T: TensorElement>(as type: T.Type = T.self) throws -> T {
        if count != 1 {
            throw MLXTerpError(.shape, "a tensor of shape \(shape) is not one number")
        }
        return try array(of: T.self)[0]
    }

    /// Whether the value lies in the very memory at an address.
    public func isShared(with address: UnsafeRawPointer) -> Bool { mlxterp_array_is_shared(raw, address) }

    /// The value as a `DLManagedTensorVersioned` (DLPack 1.x), read-only, without a copy. Whoever gets it calls its
    /// deleter, exactly once.
    public func dlpack() throws -> UnsafeMutableRawPointer {
        try eval()
        var tensor: UnsafeMutableRawPointer?
        try check(mlxterp_array_to_dlpack(raw, &tensor))
        guard let tensor else { throw MLXTerpError(.panic, "a call succeeded without a result") }
        return tensor
    }
}

extension DType {
    /// Bytes of one element.
    public var byteCount: Int {
        switch self {
        case .bool, .uint8, .int8: 1
        case .uint16, .int16, .float16, .bfloat16: 2
        case .uint32, .int32, .float32: 4
        case .uint64, .int64, .float64, .complex64: 8
        }
    }
}

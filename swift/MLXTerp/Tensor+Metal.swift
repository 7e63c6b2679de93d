#if canImport(Metal)
import CMLXTerp
import Metal

extension Tensor {
    /// The Metal buffer that holds the value, and where in it the value begins. No copy; the buffer keeps itself alive,
    /// its contents are the tensor's and must not be changed.
    ///
    /// For a library that computes on the CPU there is none, and this throws.
    public func metalBuffer() throws -> (buffer: any MTLBuffer, byteOffset: Int) {
        // DLPack's DLManagedTensorVersioned: version, context, deleter and flags (8 bytes each), then the tensor, which
        // begins with its data pointer and device. MLX gives Metal arrays as device 8, whose pointer is the buffer.
        let managed = try dlpack()
        defer {
            typealias Deleter = @convention(c) (UnsafeMutableRawPointer) -> Void
            managed.load(fromByteOffset: 16, as: Deleter?.self)?(managed)
        }
        let device = managed.load(fromByteOffset: 40, as: Int32.self)
        guard device == 8, let object = managed.load(fromByteOffset: 32, as: UnsafeRawPointer?.self) else {
            throw MLXTerpError(.unsupported, "the value is not in Metal's memory: the library computes on \(Library.backend)")
        }
        // ndim, dtype (4 bytes), shape, strides, byte_offset follow the device.
        let byteOffset = managed.load(fromByteOffset: 72, as: UInt64.self)
        guard let buffer = Unmanaged<AnyObject>.fromOpaque(object).takeUnretainedValue() as? any MTLBuffer else {
            throw MLXTerpError(.unsupported, "the value's memory is not a Metal buffer")
        }
        return (buffer, Int(byteOffset))
    }
}
#endif

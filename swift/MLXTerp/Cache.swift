import CMLXTerp

/// What a model remembers between one trace and the next. `Cache()` has seen no tokens.
///
/// A value: a trace that was started with a cache gives a new one, and the one before stays as it was.
public final class Cache: @unchecked Sendable {
    let raw: OpaquePointer

    init(_ raw: OpaquePointer) { self.raw = raw }

    /// One that has seen no tokens.
    public convenience init() throws { self.init(try made { mlxterp_cache_empty($0) }) }

    deinit { mlxterp_cache_free(raw) }

    /// Tokens that each row has seen; empty when it has seen none.
    public func lengths() throws -> [Int] {
        var rows = 0
        try check(mlxterp_cache_lengths(raw, nil, 0, &rows))
        var lengths = [Int](repeating: 0, count: rows)
        try check(mlxterp_cache_lengths(raw, &lengths, lengths.count, &rows))
        return lengths
    }

    /// Bytes that its tensors hold, or will hold once they are computed.
    public var byteCount: Int { mlxterp_cache_byte_size(raw) }

    /// Computes what it remembers, so that the graph behind it can be freed.
    public func eval() throws { try check(mlxterp_cache_eval(raw)) }
}

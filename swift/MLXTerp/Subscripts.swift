import CMLXTerp

/// What may stand between a tensor's square brackets: a number (the axis goes), a range, or one of
/// ``TensorIndex/all``, ``TensorIndex/ellipsis`` and ``TensorIndex/newAxis``. Negative numbers count from the end.
public protocol TensorSubscript {
    /// The subscript as a value.
    var tensorIndex: TensorIndex { get }
}

/// One subscript.
public struct TensorIndex: TensorSubscript, Sendable {
    let raw: mlxterp_index

    /// Itself.
    public var tensorIndex: TensorIndex { self }

    private init(_ kind: mlxterp_index_kind, _ start: Int64 = 0, _ stop: Int64 = 0, _ step: Int64 = 1) {
        raw = mlxterp_index(kind: UInt32(kind.rawValue), reserved: 0, start: start, stop: stop, step: step)
    }

    /// One element; the axis goes.
    public static func at(_ index: Int) -> TensorIndex { TensorIndex(.MLXTERP_INDEX_AT, Int64(index)) }

    /// `start:stop:step`; what is `nil` is the axis's own end.
    public static func slice(_ start: Int? = nil, _ stop: Int? = nil, step: Int = 1) -> TensorIndex {
        TensorIndex(
            .MLXTERP_INDEX_SLICE, start.map(Int64.init) ?? .min, stop.map(Int64.init) ?? .min, Int64(step))
    }

    /// A whole axis.
    public static var all: TensorIndex { .slice() }

    /// All axes that no other subscript names.
    public static var ellipsis: TensorIndex { TensorIndex(.MLXTERP_INDEX_ELLIPSIS) }

    /// A new axis of length 1.
    public static var newAxis: TensorIndex { TensorIndex(.MLXTERP_INDEX_NEW_AXIS) }
}

extension TensorSubscript where Self == TensorIndex {
    /// A whole axis.
    public static var all: TensorIndex { TensorIndex.all }
    /// All axes that no other subscript names.
    public static var ellipsis: TensorIndex { TensorIndex.ellipsis }
    /// A new axis of length 1.
    public static var newAxis: TensorIndex { TensorIndex.newAxis }
}

extension Int: TensorSubscript {
    /// One element; the axis goes.
    public var tensorIndex: TensorIndex { .at(self) }
}
extension Range: TensorSubscript where Bound == Int {
    /// From the first up to the last, which is not meant.
    public var tensorIndex: TensorIndex { .slice(lowerBound, upperBound) }
}
extension ClosedRange: TensorSubscript where Bound == Int {
    /// The last one is meant too; -1 is the end of the axis.
    public var tensorIndex: TensorIndex { .slice(lowerBound, upperBound == -1 ? nil : upperBound + 1) }
}
extension PartialRangeFrom: TensorSubscript where Bound == Int {
    /// From the first to the end of the axis.
    public var tensorIndex: TensorIndex { .slice(lowerBound, nil) }
}
extension PartialRangeUpTo: TensorSubscript where Bound == Int {
    /// From the beginning of the axis up to the last, which is not meant.
    public var tensorIndex: TensorIndex { .slice(nil, upperBound) }
}

extension Tensor {
    /// Part of the tensor, lazily and without copying: `logits[0, -1]`, `x[.all, 1..<3]`, `x[.ellipsis, 0]`.
    public subscript(at: any TensorSubscript...) -> Tensor {
        get throws {
            let indices = at.map(\.tensorIndex.raw)
            return Tensor(try made { mlxterp_array_index(raw, indices, indices.count, $0) })
        }
    }

    /// A new tensor with another value (broadcast) at the subscripts.
    public func replacing(_ at: any TensorSubscript..., with value: Tensor) throws -> Tensor {
        let indices = at.map(\.tensorIndex.raw)
        return Tensor(try made { mlxterp_array_index_update(raw, indices, indices.count, value.raw, $0) })
    }
}

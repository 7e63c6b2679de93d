import CMLXTerp

/// Lazy operators. They throw where shapes cannot meet, before anything is computed.
extension Tensor {
    func unary(_ op: mlxterp_unary) throws -> Tensor {
        Tensor(try made { mlxterp_array_unary(UInt32(op.rawValue), raw, $0) })
    }

    func binary(_ op: mlxterp_binary, _ other: Tensor) throws -> Tensor {
        Tensor(try made { mlxterp_array_binary(UInt32(op.rawValue), raw, other.raw, $0) })
    }

    func reduce(_ op: mlxterp_reduce, _ axis: Int, _ keepAxis: Bool) throws -> Tensor {
        Tensor(try made { mlxterp_array_reduce(UInt32(op.rawValue), raw, Int64(axis), keepAxis, $0) })
    }

    /// A number in the dtype that lets it meet this tensor without changing this tensor's dtype.
    func like(_ value: Double) throws -> Tensor {
        Tensor(try made { mlxterp_array_scalar_like(value, raw, $0) })
    }

    /// The sum, elementwise; shapes broadcast.
    public static func + (a: Tensor, b: Tensor) throws -> Tensor { try a.binary(.MLXTERP_BINARY_ADD, b) }
    /// The difference, elementwise; shapes broadcast.
    public static func - (a: Tensor, b: Tensor) throws -> Tensor { try a.binary(.MLXTERP_BINARY_SUBTRACT, b) }
    /// The product, elementwise; shapes broadcast. ``matmul(_:)`` is the product of matrices.
    public static func * (a: Tensor, b: Tensor) throws -> Tensor { try a.binary(.MLXTERP_BINARY_MULTIPLY, b) }
    /// The quotient, elementwise; shapes broadcast.
    public static func / (a: Tensor, b: Tensor) throws -> Tensor { try a.binary(.MLXTERP_BINARY_DIVIDE, b) }
    /// Adds a number to every element. The dtype stays.
    public static func + (a: Tensor, b: Double) throws -> Tensor { try a + a.like(b) }
    /// Takes a number from every element. The dtype stays.
    public static func - (a: Tensor, b: Double) throws -> Tensor { try a - a.like(b) }
    /// Multiplies every element by a number. The dtype stays.
    public static func * (a: Tensor, b: Double) throws -> Tensor { try a * a.like(b) }
    /// Divides every element by a number. The dtype stays.
    public static func / (a: Tensor, b: Double) throws -> Tensor { try a / a.like(b) }
    /// Adds a number to every element. The dtype stays.
    public static func + (a: Double, b: Tensor) throws -> Tensor { try b.like(a) + b }
    /// Takes every element from a number. The dtype stays.
    public static func - (a: Double, b: Tensor) throws -> Tensor { try b.like(a) - b }
    /// Multiplies every element by a number. The dtype stays.
    public static func * (a: Double, b: Tensor) throws -> Tensor { try b.like(a) * b }
    /// Divides a number by every element. The dtype stays.
    public static func / (a: Double, b: Tensor) throws -> Tensor { try b.like(a) / b }
    /// Every element with the other sign.
    public static prefix func - (a: Tensor) throws -> Tensor { try a.unary(.MLXTERP_UNARY_NEGATIVE) }
    /// Puts the sum in the place of `a`. What else holds the old value keeps it.
    public static func += (a: inout Tensor, b: Tensor) throws { a = try a + b }
    /// Puts the difference in the place of `a`. What else holds the old value keeps it.
    public static func -= (a: inout Tensor, b: Tensor) throws { a = try a - b }
    /// Puts the multiple in the place of `a`. What else holds the old value keeps it.
    public static func *= (a: inout Tensor, b: Double) throws { a = try a * b }

    /// e to the power of every element.
    public func exp() throws -> Tensor { try unary(.MLXTERP_UNARY_EXP) }
    /// The natural logarithm of every element.
    public func log() throws -> Tensor { try unary(.MLXTERP_UNARY_LOG) }
    /// The square root of every element.
    public func sqrt() throws -> Tensor { try unary(.MLXTERP_UNARY_SQRT) }
    /// The square of every element.
    public func square() throws -> Tensor { try unary(.MLXTERP_UNARY_SQUARE) }
    /// The absolute value of every element.
    public func abs() throws -> Tensor { try unary(.MLXTERP_UNARY_ABS) }
    /// 1 / (1 + exp(-x)) of every element.
    public func sigmoid() throws -> Tensor { try unary(.MLXTERP_UNARY_SIGMOID) }
    /// The hyperbolic tangent of every element.
    public func tanh() throws -> Tensor { try unary(.MLXTERP_UNARY_TANH) }
    /// Zeros of the same shape and dtype.
    public func zerosLike() throws -> Tensor { try unary(.MLXTERP_UNARY_ZEROS_LIKE) }
    /// The smaller of each two elements; shapes broadcast.
    public func minimum(_ other: Tensor) throws -> Tensor { try binary(.MLXTERP_BINARY_MINIMUM, other) }
    /// The larger of each two elements; shapes broadcast.
    public func maximum(_ other: Tensor) throws -> Tensor { try binary(.MLXTERP_BINARY_MAXIMUM, other) }
    /// Every element to the power of the other's; shapes broadcast.
    public func pow(_ other: Tensor) throws -> Tensor { try binary(.MLXTERP_BINARY_POWER, other) }

    /// Whether each element is less than the other's, as a bool tensor.
    public func less(than other: Tensor) throws -> Tensor { try binary(.MLXTERP_BINARY_LESS, other) }
    /// Whether each element is greater than the other's, as a bool tensor.
    public func greater(than other: Tensor) throws -> Tensor { try binary(.MLXTERP_BINARY_GREATER, other) }
    /// Whether each element equals the other's, as a bool tensor.
    public func equal(to other: Tensor) throws -> Tensor { try binary(.MLXTERP_BINARY_EQUAL, other) }

    /// The sum along an axis, negative from the end; the axis goes unless it is kept with length 1.
    public func sum(axis: Int, keepAxis: Bool = false) throws -> Tensor { try reduce(.MLXTERP_REDUCE_SUM, axis, keepAxis) }
    /// The mean along an axis, negative from the end; the axis goes unless it is kept with length 1.
    public func mean(axis: Int, keepAxis: Bool = false) throws -> Tensor { try reduce(.MLXTERP_REDUCE_MEAN, axis, keepAxis) }
    /// The largest along an axis, negative from the end; the axis goes unless it is kept with length 1.
    public func max(axis: Int, keepAxis: Bool = false) throws -> Tensor { try reduce(.MLXTERP_REDUCE_MAX, axis, keepAxis) }
    /// The smallest along an axis, negative from the end; the axis goes unless it is kept with length 1.
    public func min(axis: Int, keepAxis: Bool = false) throws -> Tensor { try reduce(.MLXTERP_REDUCE_MIN, axis, keepAxis) }
    /// The standard deviation along an axis, of the elements themselves (divided by their number).
    public func std(axis: Int, keepAxis: Bool = false) throws -> Tensor { try reduce(.MLXTERP_REDUCE_STD, axis, keepAxis) }
    /// The Euclidean norm along an axis, negative from the end; the axis goes unless it is kept with length 1.
    public func norm(axis: Int, keepAxis: Bool = false) throws -> Tensor { try reduce(.MLXTERP_REDUCE_NORM, axis, keepAxis) }
    /// log(sum(exp(x))) along an axis, without overflow.
    public func logSumExp(axis: Int, keepAxis: Bool = false) throws -> Tensor {
        try reduce(.MLXTERP_REDUCE_LOGSUMEXP, axis, keepAxis)
    }
    /// Where the largest along an axis stands; of equal ones the first.
    public func argmax(axis: Int, keepAxis: Bool = false) throws -> Tensor {
        try reduce(.MLXTERP_REDUCE_ARGMAX, axis, keepAxis)
    }

    /// Matrix product of the last two axes.
    public func matmul(_ other: Tensor) throws -> Tensor { try binary(.MLXTERP_BINARY_MATMUL, other) }

    /// Softmax along an axis, accumulated in float32.
    public func softmax(axis: Int = -1) throws -> Tensor { Tensor(try made { mlxterp_array_softmax(raw, Int64(axis), $0) }) }

    /// The same values in another dtype.
    public func cast(to dtype: DType) throws -> Tensor { Tensor(try made { mlxterp_array_cast(raw, dtype.rawValue, $0) }) }

    /// Indices of the greatest elements of the last axis, the greatest first.
    public func topK(_ k: Int) throws -> Tensor {
        if k < 0 { throw MLXTerpError(.invalidArgument, "top \(k): the number must not be negative") }
        return Tensor(try made { mlxterp_array_topk(raw, k, $0) })
    }

    /// Elements along an axis by a tensor of indices. Checks the indices, which computes them.
    public func take(_ indices: Tensor, axis: Int) throws -> Tensor {
        Tensor(try made { mlxterp_array_take(raw, indices.raw, Int64(axis), $0) })
    }

    /// A new shape for the same elements; one length may be -1.
    public func reshape(_ shape: [Int]) throws -> Tensor {
        let lengths = shape.map(Int64.init)
        return Tensor(try made { mlxterp_array_reshape(raw, lengths, lengths.count, $0) })
    }

    /// Repeats axes of length 1 up to a shape, without copying.
    public func broadcast(to shape: [Int]) throws -> Tensor {
        let lengths = shape.map(Int64.init)
        return Tensor(try made { mlxterp_array_broadcast_to(raw, lengths, lengths.count, $0) })
    }

    /// Axes in another order, without copying; reversed when none is named.
    public func transpose(_ axes: [Int]? = nil) throws -> Tensor {
        let order = (axes ?? (0..<ndim).reversed()).map(Int64.init)
        return Tensor(try made { mlxterp_array_transpose(raw, order, order.count, $0) })
    }

    /// Tensors joined along an axis.
    public static func concatenate(_ tensors: [Tensor], axis: Int) throws -> Tensor {
        Tensor(try made { out in tensors.withHandles { mlxterp_array_concatenate($0, $1, Int64(axis), out) } })
    }

    /// Tensors of one shape joined along a new axis.
    public static func stack(_ tensors: [Tensor], axis: Int) throws -> Tensor {
        Tensor(try made { out in tensors.withHandles { mlxterp_array_stack($0, $1, Int64(axis), out) } })
    }

    /// `condition ? a : b`, broadcast.
    public static func select(_ condition: Tensor, _ a: Tensor, _ b: Tensor) throws -> Tensor {
        Tensor(try made { mlxterp_array_where(condition.raw, a.raw, b.raw, $0) })
    }
}

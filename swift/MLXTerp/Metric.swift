import CMLXTerp

/// What an analysis measures, at each row's own last token unless it is a closure.
public struct Metric: Sendable {
    enum Kind: Sendable {
        case named(String, [String: Token])
        case closure(@Sendable (Trace) throws -> Tensor)
    }

    /// A token: its id, or a text that is exactly one token (" Paris").
    public enum Token: Encodable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, Sendable {
        case id(UInt32)
        case text(String)

        /// By its text.
        public init(stringLiteral text: String) { self = .text(text) }
        /// By its id.
        public init(integerLiteral id: UInt32) { self = .id(id) }

        /// As JSON says it.
        public func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            switch self {
            case .id(let id): try container.encode(id)
            case .text(let text): try container.encode(text)
            }
        }
    }

    let kind: Kind

    /// Logit of one token less that of another.
    public static func logitDifference(answer: Token, wrong: Token) -> Metric {
        Metric(kind: .named("logit_difference", ["answer": answer, "wrong": wrong]))
    }
    /// A token's logit.
    public static func logit(_ answer: Token) -> Metric { Metric(kind: .named("logit", ["answer": answer])) }
    /// A token's probability.
    public static func probability(_ answer: Token) -> Metric {
        Metric(kind: .named("probability", ["answer": answer]))
    }
    /// A token's log probability, in nats.
    public static func logProbability(_ answer: Token) -> Metric {
        Metric(kind: .named("log_probability", ["answer": answer]))
    }
    /// KL(reference ‖ here) of the next token, in nats; the analysis names the reference run.
    public static let klDivergence = Metric(kind: .named("kl_divergence", [:]))
    /// Whatever a closure makes of the trace: a number a row. What it throws, the analysis throws.
    public static func custom(_ closure: @escaping @Sendable (Trace) throws -> Tensor) -> Metric {
        Metric(kind: .closure(closure))
    }
}

extension Metric.Token {
    var option: ToolOption {
        switch self {
        case .id(let id): .integer(Int(id))
        case .text(let text): .text(text)
        }
    }
}

/// A metric's closure behind the `user` pointer of the C interface.
final class Measured {
    let model: InterpretableModel
    let closure: @Sendable (Trace) throws -> Tensor
    init(_ model: InterpretableModel, _ closure: @escaping @Sendable (Trace) throws -> Tensor) {
        (self.model, self.closure) = (model, closure)
    }
}

let callMetric: mlxterp_metric_fn = { user, trace, output in
    guard let user, let output, let own = mlxterp_trace_retain(trace) else {
        return Int32(mlxterp_status.MLXTERP_STATUS_PANIC.rawValue)
    }
    let measured = Unmanaged<Measured>.fromOpaque(user).takeUnretainedValue()
    do {
        let batch = Batch(try made { mlxterp_trace_batch(own, $0) })
        let value = try measured.closure(Trace(own, measured.model, batch))
        output.pointee = mlxterp_array_retain(value.raw)
        return 0
    } catch {
        Pending.hold(error)
        return Int32(mlxterp_status.MLXTERP_STATUS_CALLBACK.rawValue)
    }
}

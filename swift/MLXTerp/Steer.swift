import CMLXTerp

/// In which steps of a generation a change is made.
public enum When: UInt32, Sendable {
    /// In every step.
    case always = 0
    /// In step 0, over the prompts.
    case prefill = 1
    /// In every later step, over the token drawn before it.
    case decode = 2
}

/// Which sites a change is made at.
public struct Places: Sendable, ExpressibleByStringLiteral {
    let patterns: [String]

    /// A site or pattern, such as "layers.*.mlp".
    public init(stringLiteral pattern: String) { patterns = [pattern] }

    /// The residual stream after these layers, or another value of theirs.
    public static func layers(_ layers: some Sequence<Int>, _ site: String = "output") -> Places {
        Places(patterns: layers.map { "layers.\($0).\(site)" })
    }

    /// The residual stream after a layer, or another value of it.
    public static func layer(_ layer: Int, _ site: String = "output") -> Places { layers([layer], site) }

    /// A site or pattern.
    public static func site(_ pattern: String) -> Places { Places(patterns: [pattern]) }

    private init(patterns: [String]) { self.patterns = patterns }
}

/// A linear probe with a threshold, decided row by row.
public final class Condition: @unchecked Sendable, CustomStringConvertible {
    let raw: OpaquePointer

    private init(_ site: String, _ direction: Tensor, _ threshold: Double, _ bias: Double, below: Bool) throws {
        let name = try checked(site, "the site")
        raw = try made(site: site) { mlxterp_condition_new(name, direction.raw, bias, threshold, below, $0) }
    }

    deinit { mlxterp_condition_free(raw) }

    /// While `direction . value + bias` at each row's last position of `site` is greater than `threshold`.
    public static func probe(
        _ site: String, _ direction: Tensor, above threshold: Double, bias: Double = 0
    ) throws -> Condition {
        try Condition(site, direction, threshold, bias, below: false)
    }

    /// While it is less.
    public static func probe(
        _ site: String, _ direction: Tensor, below threshold: Double, bias: Double = 0
    ) throws -> Condition {
        try Condition(site, direction, threshold, bias, below: true)
    }

    /// In words.
    public var description: String { (try? text { mlxterp_condition_describe(raw, $0) }) ?? "condition" }
}

/// A change that is made again in every step of a generation that it is meant for. Position -1 is the newest token in
/// every step.
public struct Steer: Sendable {
    let places: Places
    let intervention: Intervention
    let when: When
    private(set) var condition: Condition?

    /// What is done, where, and in which steps.
    public static func change(_ intervention: Intervention, at places: Places, when: When = .always) -> Steer {
        Steer(places: places, intervention: intervention, when: when)
    }

    /// A vector added.
    public static func add(
        _ vector: Tensor, strength: Double = 1, at places: Places, when: When = .always
    ) -> Steer {
        change(.add(vector, strength: strength), at: places, when: when)
    }

    /// The same, in rows that meet a condition only, decided anew in every step. A probe that lies behind the change
    /// decides over the next step.
    public func onlyWhile(_ condition: Condition) -> Steer {
        var conditional = self
        conditional.condition = condition
        return conditional
    }
}

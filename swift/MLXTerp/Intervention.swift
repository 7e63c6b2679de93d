import CMLXTerp

/// A change of a site's value, as a value: what is done, and to which part.
///
/// Interventions compare, print, go to JSON and come back, and can be restricted:
/// `Intervention.scale(0.5).heads(2).positions(-1)`.
public struct Intervention: Sendable {
    final class Handle: @unchecked Sendable {
        let raw: OpaquePointer
        init(_ raw: OpaquePointer) { self.raw = raw }
        deinit { mlxterp_intervention_free(raw) }
    }

    let handle: Result<Handle, any Error>

    /// Making one can fail (a scale by infinity). Kept until it is used, so that a literal needs no `try`.
    init(_ make: () throws -> OpaquePointer) {
        handle = Result { Handle(try make()) }
    }

    /// Zeros in place of the value.
    public static var zeroOut: Intervention { Intervention { try made { mlxterp_intervention_zero_out($0) } } }

    /// The value times a number.
    public static func scale(_ factor: Double) -> Intervention {
        Intervention { try made { mlxterp_intervention_scale(factor, $0) } }
    }

    /// The value plus `vector` times `strength`; the vector broadcasts to the site.
    public static func add(_ vector: Tensor, strength: Double = 1) -> Intervention {
        Intervention { try made { mlxterp_intervention_add_vector(vector.raw, strength, $0) } }
    }

    /// Another value in its place; it broadcasts to the site.
    public static func replace(with value: Tensor) -> Intervention {
        Intervention { try made { mlxterp_intervention_replace_with(value.raw, $0) } }
    }

    /// Values outside the bounds become the bounds; an infinite bound is none.
    public static func clamp(low: Double = -.infinity, high: Double = .infinity) -> Intervention {
        Intervention { try made { mlxterp_intervention_clamp(low, high, $0) } }
    }

    /// Values outside the range become its bounds.
    public static func clamp(_ range: ClosedRange<Double>) -> Intervention {
        clamp(low: range.lowerBound, high: range.upperBound)
    }

    /// Normal noise added; the same seed gives the same noise.
    public static func noise(std: Double = 1, seed: UInt64) -> Intervention {
        Intervention { try made { mlxterp_intervention_noise(std, seed, $0) } }
    }

    /// The value without its component along a direction, whose length does not matter.
    public static func projectOut(_ direction: Tensor) -> Intervention {
        Intervention { try made { mlxterp_intervention_project_out(direction.raw, $0) } }
    }

    /// The value with its component along a direction set to a number.
    public static func setComponent(_ direction: Tensor, to value: Double) -> Intervention {
        Intervention { try made { mlxterp_intervention_set_component(direction.raw, value, $0) } }
    }

    /// One after another.
    public static func compose(_ parts: [Intervention]) -> Intervention {
        Intervention {
            let handles = try parts.map { try $0.get() }
            return try withExtendedLifetime(handles) {
                let raw = handles.map { Optional($0.raw) }
                return try made { mlxterp_intervention_compose(raw, raw.count, $0) }
            }
        }
    }

    /// From JSON such as `{"kind": "scale", "factor": 0.5, "positions": [-1]}`, or the short form `scale(0.5)`.
    public init(json: String) throws {
        let text = try checked(json, "the JSON")
        self.init { try made { mlxterp_intervention_from_json(text, $0) } }
        _ = try get()
    }

    /// As JSON. One made from a closure has none.
    public func json() throws -> String {
        let handle = try get()
        return try text { mlxterp_intervention_to_json(handle.raw, $0) }
    }

    /// The same on these rows of the batch only, negative from the end.
    public func rows(_ rows: Int...) -> Intervention { selecting("rows", rows) }

    /// The same at these positions only, negative from each row's own end.
    public func positions(_ positions: Int...) -> Intervention { selecting("positions", positions) }

    /// The same on these heads only.
    public func heads(_ heads: Int...) -> Intervention { selecting("heads", heads) }

    /// The same on these features of the last axis only.
    public func neurons(_ neurons: Int...) -> Intervention { selecting("neurons", neurons) }

    func selecting(_ axis: String, _ which: [Int]) -> Intervention {
        Intervention {
            let handle = try get()
            let indices = which.map(Int64.init)
            return try made { mlxterp_intervention_select(handle.raw, axis, indices, indices.count, $0) }
        }
    }

    func get() throws -> Handle { try handle.get() }
}

extension Intervention: Equatable, CustomStringConvertible {
    /// Whether both do the same. Those made from closures are equal only to themselves.
    public static func == (a: Intervention, b: Intervention) -> Bool {
        guard let a = try? a.get(), let b = try? b.get() else { return false }
        return mlxterp_intervention_equal(a.raw, b.raw)
    }

    /// What it does, such as `scale(0.5) positions=[-1]`.
    public var description: String {
        do {
            let handle = try get()
            return try text { mlxterp_intervention_describe(handle.raw, $0) }
        } catch {
            return "invalid intervention: \(error)"
        }
    }
}

extension Intervention: Codable {
    /// From the JSON form in a string.
    public init(from decoder: any Decoder) throws {
        try self.init(json: String(from: decoder))
    }

    /// As a string that holds the JSON form.
    public func encode(to encoder: any Encoder) throws {
        try json().encode(to: encoder)
    }
}

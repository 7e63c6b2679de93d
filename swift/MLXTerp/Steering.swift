import Foundation

/// A vector a layer, by the layer's number, and where they come from.
public struct SteeringVectors: Sendable {
    /// What is done along a vector.
    public enum Action: Sendable {
        /// The vector, times a strength, is added.
        case add(strength: Double)
        /// The component along it is taken out.
        case projectOut
        /// The component along it is set.
        case setComponent(Double)
    }

    /// The length of a vector before it is multiplied.
    public enum Length: String, Sendable {
        case own = "none"
        case unit
        /// That of the states it was found in.
        case state
    }

    struct About: Decodable {
        struct Layer: Decodable {
            let separation: Double?
            let factors: [String: Double?]
        }

        let method: String
        let site: String
        let layers: [String: Layer]
    }

    /// What found them: prints, draws itself.
    public let findings: Findings
    let about: About

    init(_ findings: Findings) throws {
        self.findings = findings
        about = try findings.decode(About.self)
    }

    /// The layers that have a vector.
    public var layers: [Int] { about.layers.keys.compactMap(Int.init).sorted() }

    /// How they were found; empty when nobody says.
    public var method: String { about.method }

    /// The value within a layer that they belong to.
    public var site: String { about.site }

    /// The vector of a layer.
    public func vector(_ layer: Int) throws -> Tensor { try findings.tensor("layers.\(layer).\(site)") }

    /// The chance that a positive text projects higher than a negative one.
    public func separation(_ layer: Int) -> Double? { about.layers[String(layer)]?.separation }

    /// What to give a trace, by site. Without layers: in all that have a vector.
    public func interventions(
        _ action: Action, length: Length = .own, layers: [Int]? = nil, positions: [Int]? = nil
    ) throws -> [(String, Intervention)] {
        try (layers ?? self.layers).map { layer in
            let vector = try vector(layer)
            var made: Intervention
            switch action {
            case .add(let strength):
                guard let factor = about.layers[String(layer)]?.factors[length.rawValue] ?? nil else {
                    throw MLXTerpError(.invalidArgument, "how long the states of layer \(layer) were is not known")
                }
                made = .add(vector, strength: strength * factor)
            case .projectOut: made = .projectOut(vector)
            case .setComponent(let value): made = .setComponent(vector, to: value)
            }
            if let positions { made = made.selecting("positions", positions) }
            return ("layers.\(layer).\(site)", made)
        }
    }
}

extension InterpretableModel {
    /// A direction a layer from texts that have something and texts that have it not.
    ///
    /// - Parameter options: `layers`, `site`, `method`, `position`, `batch_size`, `l2`, `save`; see the guide.
    public func steeringVectors(
        positive: [String], negative: [String], options: [String: ToolOption] = [:]
    ) throws -> SteeringVectors {
        var all = options
        all["positive"] = .list(positive.map { .text($0) })
        all["negative"] = .list(negative.map { .text($0) })
        return try SteeringVectors(run("steering_vectors", options: all))
    }

    /// Vectors from a .safetensors file, or a .gguf one as repeng writes it.
    public func steeringVectors(file: String) throws -> SteeringVectors {
        try SteeringVectors(run("steering_vectors", options: ["load": .text(file)]))
    }
}

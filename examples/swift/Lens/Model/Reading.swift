import MLXTerp

/// A token and how likely it is.
public struct Candidate: Sendable, Hashable {
    public let token: String
    public let probability: Float
}

/// What each layer would say next at each token, if it were the last: the logit lens.
public struct LensTable: Sendable, Equatable {
    /// The prompt's tokens.
    public let tokens: [String]
    /// One a layer, each with one candidate a token.
    public let layers: [[Candidate]]
}

/// Who looks at whom: `[head][query][key]`, each query's row adding up to 1.
public struct AttentionMaps: Sendable, Equatable {
    /// The prompt's tokens.
    public let tokens: [String]
    /// One matrix a head.
    public let heads: [[[Float]]]
}

/// A direction in the residual stream, added after a layer at every token.
public struct Steering: Sendable {
    public var vector: Tensor
    public var layer: Int
    public var strength: Double

    public init(vector: Tensor, layer: Int, strength: Double) {
        (self.vector, self.layer, self.strength) = (vector, layer, strength)
    }
}

/// Questions to a model. Each starts a trace of its own, so they may be asked from any task.
extension InterpretableModel {
    /// A prompt's tokens in words.
    public func words(of prompt: String) throws -> [String] {
        try encode(prompt).map { try tokenText($0) }
    }

    /// A trace of a prompt, steered or not.
    func trace(of prompt: String, _ steering: Steering?) throws -> Trace {
        guard let steering, steering.strength != 0 else { return try trace(prompt) }
        let change = Intervention.add(steering.vector, strength: steering.strength)
        return try trace(prompt, interventions: ["layers.\(steering.layer)": change])
    }

    /// The logit lens: each layer's output in the place of the last one's, through the model's own norm and head.
    public func lens(_ prompt: String, steering: Steering? = nil) throws -> LensTable {
        let trace = try trace(of: prompt, steering)
        let layers = try (0..<layerCount).map { layer in
            try Task.checkCancellation()
            let value = try trace.layers[layer].output
            let fork = try trace.fork()
            fork.layers[layerCount - 1].output = value
            return try likeliest(fork.output[0])
        }
        return LensTable(tokens: try words(of: prompt), layers: layers)
    }

    /// The likeliest token at each position of logits `[position, vocabulary]`.
    private func likeliest(_ logits: Tensor) throws -> [Candidate] {
        let probabilities = try logits.softmax()
        let (best, highest) = (try probabilities.argmax(axis: -1), try probabilities.max(axis: -1))
        try Tensor.eval([best, highest])
        return try zip(best.array(of: Int.self), highest.array(of: Float.self)).map {
            Candidate(token: try tokenText($0), probability: $1)
        }
    }

    /// The likeliest tokens after a prompt.
    public func next(_ prompt: String, count: Int = 5, steering: Steering? = nil) throws -> [Candidate] {
        let probabilities = try trace(of: prompt, steering).output[0, -1].softmax()
        let top = try probabilities.topK(count)
        return try zip(top.array(of: Int.self), probabilities.take(top, axis: -1).array(of: Float.self)).map {
            Candidate(token: try tokenText($0), probability: $1)
        }
    }

    /// The attention patterns of a layer.
    public func attention(_ prompt: String, layer: Int, steering: Steering? = nil) throws -> AttentionMaps {
        let pattern = try trace(of: prompt, steering).layers[layer].attn.pattern[0]
        let (shape, values) = (pattern.shape, try pattern.array(of: Float.self))
        let (queries, keys) = (shape[1], shape[2])
        let heads = (0..<shape[0]).map { head in
            (0..<queries).map { query in
                let start = (head * queries + query) * keys
                return Array(values[start..<start + keys])
            }
        }
        return AttentionMaps(tokens: try words(of: prompt), heads: heads)
    }

    /// What sets one prompt apart from another at their last tokens, after a layer.
    public func direction(from: String, to: String, layer: Int) throws -> Tensor {
        let (a, b) = (try trace(from).layers[layer].output[positions: -1], try trace(to).layers[layer].output[positions: -1])
        return try (b - a)[0].eval()
    }
}

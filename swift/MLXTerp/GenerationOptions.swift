import CMLXTerp

/// How tokens are drawn, and when to stop. Leave out what should be as usual: greedy, up to 128 tokens.
public struct GenerationOptions: Sendable {
    /// The most tokens drawn for a row.
    public var maxTokens: Int
    /// Divides the logits; 0 is greedy.
    public var temperature: Double
    /// Only the `topK` most likely tokens.
    public var topK: Int?
    /// Only the most likely tokens that together reach this probability.
    public var topP: Double
    /// Only tokens at least this many times as likely as the most likely one.
    public var minP: Double
    /// Row `r` of a batch draws what it would draw alone with `seed + r`.
    public var seed: UInt64
    /// Texts that end a row; its text stops before them.
    public var stop: [String]
    /// Token ids that end a row; by default those the model's files name.
    public var endTokens: [Int]?
    /// Keeps every value of every step's trace from its start.
    public var keepAll: Bool
    /// A write that changed or reached nothing is an error when its step's tokens are drawn.
    public var strict: Bool

    /// The usual ones, and what differs from them.
    public init(
        maxTokens: Int = 128, temperature: Double = 0, topK: Int? = nil, topP: Double = 1, minP: Double = 0,
        seed: UInt64 = 0, stop: [String] = [], endTokens: [Int]? = nil, keepAll: Bool = false, strict: Bool = false
    ) {
        self.maxTokens = maxTokens
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        self.minP = minP
        self.seed = seed
        self.stop = stop
        self.endTokens = endTokens
        self.keepAll = keepAll
        self.strict = strict
    }

    /// Starts a generation.
    func start(_ model: InterpretableModel, _ batch: Batch, _ steering: [Steer]) throws -> OpaquePointer {
        if maxTokens < 0 || topK.map({ $0 < 1 }) == true {
            throw MLXTerpError(
                .invalidArgument, "maxTokens is \(maxTokens) and topK \(topK ?? 1): both must be 1 or more")
        }
        let ends = try endTokens?.map { id in
            guard let token = UInt32(exactly: id) else {
                throw MLXTerpError(.invalidArgument, "token id \(id) is out of range")
            }
            return token
        }
        let each = steering.flatMap { steer in steer.places.patterns.map { ($0, steer) } }
        let changes = try each.map { try $0.1.intervention.get() }
        return try withCTexts(stop + each.map(\.0), "a stop string or a pattern") { texts in
            let stops = Array(texts[..<stop.count])
            let patterns = Array(texts[stop.count...])
            return try withExtendedLifetime((changes, steering)) {
                var options = mlxterp_generate_options()
                try check(
                    mlxterp_generate_options_init_sized(&options, MemoryLayout<mlxterp_generate_options>.size))
                (options.max_tokens, options.temperature, options.top_k) = (maxTokens, temperature, topK ?? 0)
                (options.top_p, options.min_p, options.seed) = (topP, minP, seed)
                (options.keep_all, options.strict) = (keepAll ? 1 : 0, strict ? 1 : 0)
                let handles = changes.map { Optional($0.raw) }
                let whens = each.map(\.1.when.rawValue)
                let conditions = each.map { $0.1.condition?.raw }
                // One element more, so that an empty list has an address too: it means "none", NULL means "the usual".
                let ids = (ends ?? []) + [0]
                return try stops.withUnsafeBufferPointer { stops in
                    try patterns.withUnsafeBufferPointer { patterns in
                        try handles.withUnsafeBufferPointer { handles in
                            try conditions.withUnsafeBufferPointer { conditions in
                                try whens.withUnsafeBufferPointer { whens in
                                    try ids.withUnsafeBufferPointer { ids in
                                        (options.stops, options.stop_count) = (stops.baseAddress, stops.count)
                                        options.eos_ids = ends == nil ? nil : ids.baseAddress
                                        options.eos_count = ends?.count ?? 0
                                        options.patterns = patterns.baseAddress
                                        options.interventions = handles.baseAddress
                                        options.whens = whens.baseAddress
                                        options.conditions = conditions.baseAddress
                                        options.intervention_count = patterns.count
                                        return try made {
                                            mlxterp_generation_start(model.raw, batch.raw, &options, $0)
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

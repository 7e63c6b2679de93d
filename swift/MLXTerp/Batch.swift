import CMLXTerp

/// Token ids of one prompt or several, each row with its own length; padded by the library.
public final class Batch: @unchecked Sendable {
    let raw: OpaquePointer

    init(_ raw: OpaquePointer) { self.raw = raw }

    deinit { mlxterp_batch_free(raw) }

    /// Number of rows.
    public var count: Int { mlxterp_batch_count(raw) }

    /// Positions of the longest row.
    public var width: Int { mlxterp_batch_width(raw) }

    /// Tokens of each row.
    public var lengths: [Int] {
        guard let lengths = mlxterp_batch_lengths(raw) else { return [] }
        return (0..<count).map { lengths[$0] }
    }

    /// The ids `[row, position]`, padded on the right.
    public func ids() throws -> Tensor { Tensor(try made { mlxterp_batch_ids(raw, $0) }) }

    /// Each row's own ids, without padding.
    public func rows() throws -> [[Int]] {
        let (flat, width) = (try ids().array(of: Int.self), self.width)
        return lengths.enumerated().map { row, length in Array(flat[row * width..<row * width + length]) }
    }
}

/// What a trace can run over: a text, token ids, a list of either, or a ``Batch``.
public protocol Prompts {
    /// The tokens, by a model's tokenizer where they are texts.
    func batch(for model: InterpretableModel) throws -> Batch
}

extension Batch: Prompts {
    /// Itself: it was checked and padded when it was made.
    public func batch(for model: InterpretableModel) -> Batch { self }
}

extension String: Prompts {
    /// One row: the text's tokens.
    public func batch(for model: InterpretableModel) throws -> Batch { try [self].batch(for: model) }
}

/// What a list of which is ``Prompts``: a token id, a text, or a row of ids.
public protocol PromptElement {
    /// A batch of these.
    static func batch(of elements: [Self], for model: InterpretableModel) throws -> Batch
}

extension Array: Prompts where Element: PromptElement {
    /// What a list of its elements means.
    public func batch(for model: InterpretableModel) throws -> Batch { try Element.batch(of: self, for: model) }
}

extension String: PromptElement {
    /// A row for each text.
    public static func batch(of texts: [String], for model: InterpretableModel) throws -> Batch {
        try withCTexts(texts, "a prompt") { texts in
            Batch(try made { mlxterp_batch_from_texts(model.raw, texts, texts.count, $0) })
        }
    }
}

extension Int: PromptElement {
    /// One row of token ids.
    public static func batch(of ids: [Int], for model: InterpretableModel) throws -> Batch {
        try [Int].batch(of: [ids], for: model)
    }
}

extension Array: PromptElement where Element == Int {
    /// A row for each list of ids, padded on the right.
    public static func batch(of rows: [[Int]], for model: InterpretableModel) throws -> Batch {
        let ids = try rows.joined().map { id in
            guard let token = UInt32(exactly: id) else {
                throw MLXTerpError(.invalidArgument, "token id \(id) is out of range")
            }
            return token
        }
        let lengths = rows.map(\.count)
        return Batch(try made { mlxterp_batch_from_tokens(model.raw, ids, lengths, lengths.count, $0) })
    }
}

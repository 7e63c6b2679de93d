import CMLXTerp

extension InterpretableModel {
    /// Token ids of a text.
    public func encode(_ text: String, addSpecialTokens: Bool = true) throws -> [Int] {
        let text = try checked(text, "the text")
        var count = 0
        try check(mlxterp_model_encode(raw, text, addSpecialTokens, nil, 0, &count))
        var ids = [UInt32](repeating: 0, count: count)
        try check(mlxterp_model_encode(raw, text, addSpecialTokens, &ids, ids.count, &count))
        return ids.map(Int.init)
    }

    /// Text of token ids.
    public func decode(_ ids: [Int], skipSpecialTokens: Bool = false) throws -> String {
        let ids = try ids.map { try token($0) }
        return try text { mlxterp_model_decode(raw, ids, ids.count, skipSpecialTokens, $0) }
    }

    /// Text of one token, with the space before it where it has one.
    public func tokenText(_ id: Int) throws -> String {
        let id = try token(id)
        return try text { mlxterp_model_token_to_str(raw, id, $0) }
    }

    private func token(_ id: Int) throws -> UInt32 {
        guard let token = UInt32(exactly: id) else {
            throw MLXTerpError(.invalidArgument, "token id \(id) is out of range")
        }
        return token
    }
}

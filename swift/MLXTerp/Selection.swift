import CMLXTerp

/// Which part of a value is meant.
struct Selection: Equatable, Sendable {
    var heads: [Int]?
    var positions: [Int]?

    /// An intervention on this part only.
    func narrowing(_ intervention: Intervention) -> Intervention {
        var narrowed = intervention
        if let heads { narrowed = narrowed.selecting("heads", heads) }
        if let positions { narrowed = narrowed.selecting("positions", positions) }
        return narrowed
    }

    /// The selected part of a site's value: an axis of which one element was chosen goes, several become one axis.
    func read(_ site: Site) throws -> Tensor {
        let whole = try site.trace.read(site.path)
        if heads == nil && positions == nil { return whole }
        let axes = try site.trace.model.axes(of: site.path)
        // The later axis first: choosing one element takes its axis away.
        let parts = [(heads, "head"), (positions, "position")].compactMap { chosen, name in chosen.map { ($0, name) } }
        let placed = try parts.map { chosen, name in
            guard let axis = axes.firstIndex(of: name), axis < whole.ndim else {
                throw MLXTerpError(
                    .invalidArgument, "'\(site.path)' of shape \(whole.shape) has no \(name) axis", site: site.path)
            }
            return (chosen, name, axis)
        }
        return try placed.sorted { $0.2 > $1.2 }.reduce(whole) { value, part in
            let (chosen, name, axis) = part
            let each = try chosen.map { index in
                name == "position"
                    ? try Self.position(index, of: value, axis: axis, site: site)
                    : try value[[TensorIndex](repeating: .all, count: axis) + [.at(index)]]
            }
            return each.count == 1 ? each[0] : try Tensor.stack(each, axis: axis)
        }
    }

    /// One position of every row, negative from that row's own end.
    private static func position(_ position: Int, of value: Tensor, axis: Int, site: Site) throws -> Tensor {
        let lengths = site.trace.batch.lengths
        for (row, length) in lengths.enumerated() where !(-length..<length).contains(position) {
            throw MLXTerpError(
                .invalidArgument, "there is no position \(position) in row \(row) of '\(site.path)': it has \(length) tokens",
                site: site.path)
        }
        let own = lengths.map { position < 0 ? $0 + position : position }
        let between = [TensorIndex](repeating: .all, count: axis - 1)
        if Set(own).count == 1 {
            return try value[[.all] + between + [.at(own[0])]]
        }
        let rows = try own.enumerated().map { row, at in try value[[.at(row)] + between + [.at(at)]] }
        return try Tensor.stack(rows, axis: 0)
    }
}

extension Tensor {
    subscript(at: [TensorIndex]) -> Tensor {
        get throws {
            let indices = at.map(\.raw)
            return Tensor(try made { mlxterp_array_index(raw, indices, indices.count, $0) })
        }
    }
}

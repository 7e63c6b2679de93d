extension Tensor: SiteValue {
    /// Puts the tensor in the place of the site's value, or of the selected part of it.
    public func assign(to site: Site) throws {
        if site.selection == Selection() {
            try site.trace.write(site.path, self)
        } else {
            try site.selection.write(self, site)
        }
    }
}

extension Intervention: SiteValue {
    /// Applies the intervention to the site.
    public func assign(to site: Site) throws { try site.apply(self) }
}

extension Site: SiteValue {
    /// Puts the value of one site in the place of another.
    public func assign(to site: Site) throws { try read().assign(to: site) }
}

extension Double: SiteValue {
    /// Fills the site, or the selected part of it, with the number.
    public func assign(to site: Site) throws { try site.apply(.replace(with: Tensor(self))) }
}

extension Int: SiteValue {
    /// Fills the site, or the selected part of it, with the number.
    public func assign(to site: Site) throws { try Double(self).assign(to: site) }
}

extension Selection {
    /// Puts a value in the selected part's place. It has the shape that reading the part gives, or broadcasts to it.
    func write(_ value: Tensor, _ site: Site) throws {
        // An intervention's value broadcasts to the whole site: the axes that a read takes away come back with length 1,
        // and of several heads or positions each gets its own part.
        let axes = try site.trace.model.axes(of: site.path)
        var parts = [(value, self)]
        let chosen: [(String, [Int]?)] = [("head", heads), ("position", positions)]
        let placed = chosen.compactMap { name, which in
            which.flatMap { which in axes.firstIndex(of: name).map { (name, which, $0) } }
        }
        // The earlier axis first: it stands where it will stand in the end.
        for (name, which, axis) in placed.sorted(by: { $0.2 < $1.2 }) {
            parts = try parts.flatMap { value, selection in
                try which.enumerated().map { number, index in
                    var own = selection
                    if name == "head" { own.heads = [index] } else { own.positions = [index] }
                    // Counted from the end, so that a value with fewer axes still broadcasts.
                    let after = axes.count - 1 - axis
                    let all = TensorIndex.ellipsis
                    let rest = [TensorIndex](repeating: .all, count: after)
                    if which.count == 1 {
                        return (value.ndim < after ? value : try value[[all, .newAxis] + rest], own)
                    }
                    let has = value.ndim > after
                    return (has ? try value[[all, .slice(number, number + 1)] + rest] : value, own)
                }
            }
        }
        for (part, selection) in parts {
            try site.trace.intervene(site.path, selection.narrowing(.replace(with: part)))
        }
    }
}

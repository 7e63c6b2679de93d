import CMLXTerp

/// What can be assigned to a site: a ``Tensor``, a number (for all elements), an ``Intervention``, or another ``Site``.
public protocol SiteValue {
    /// Does the assignment.
    func assign(to site: Site) throws
}

/// A named place of a trace: a module, one of its values, or part of a value.
///
/// Its members are its values and submodules. A member is a `Site` where a site is asked for, and the value it names, a
/// ``Tensor``, where one is: `let attention = try trace.layers[3].attn.output` reads, `trace.layers[3]` alone does not.
@dynamicMemberLookup
public struct Site {
    /// The trace it belongs to.
    public let trace: Trace
    /// The name by which every front end knows it.
    public let path: String
    var selection = Selection()

    /// The value, lazily; the part of it that was selected.
    public func read() throws -> Tensor { try selection.read(self) }

    /// Applies an intervention, to what was selected.
    public func apply(_ intervention: Intervention) throws {
        try trace.intervene(path, selection.narrowing(intervention))
    }

    func member(_ name: String) -> Site {
        Site(trace: trace, path: path.isEmpty ? name : path + "." + name, selection: selection)
    }

    func selecting(_ change: (inout Selection) -> Void) -> Site {
        var part = self
        change(&part.selection)
        return part
    }

    /// A member read as a value.
    public subscript(dynamicMember name: String) -> Tensor {
        get throws { try member(name).read() }
    }

    /// A member as a place.
    @_disfavoredOverload
    public subscript(dynamicMember name: String) -> Site {
        get { member(name) }
        nonmutating set { member(name).take(newValue) }
    }

    /// A member assigned to.
    @_disfavoredOverload
    public subscript(dynamicMember name: String) -> any SiteValue {
        get { member(name) }
        nonmutating set { member(name).take(newValue) }
    }

    /// A numbered part: `layers[3]`, `layers[-1]`.
    public subscript(index: Int) -> Site {
        Site(trace: trace, path: "\(path).\(index)", selection: selection)
    }

    /// Single heads: `attn.heads[2].z` is that head's value.
    public var heads: Heads { Heads(site: self) }

    /// The layers; the same as `["layers"]`, said here so that `layers[3]` is never taken for part of a value.
    public var layers: Site { member("layers") }

    func take(_ value: any SiteValue) {
        // What an in-place operator hands back.
        if let site = value as? Site, site.trace === trace, site.path == path, site.selection == selection { return }
        trace.assign { try value.assign(to: self) }
    }
}

extension Site {
    /// At these positions only, negative from each row's own end, read as a value: one position loses its axis.
    public subscript(positions positions: Int...) -> Tensor {
        get throws { try selecting { $0.positions = positions }.read() }
    }

    /// At these positions only, as a place.
    @_disfavoredOverload
    public subscript(positions positions: Int...) -> Site {
        get { selecting { $0.positions = positions } }
        nonmutating set { selecting { $0.positions = positions }.take(newValue) }
    }

    /// At these positions only, assigned to.
    @_disfavoredOverload
    public subscript(positions positions: Int...) -> any SiteValue {
        get { selecting { $0.positions = positions } }
        nonmutating set { selecting { $0.positions = positions }.take(newValue) }
    }

    /// Adds to what is there.
    public static func += (site: inout Site, vector: Tensor) {
        let site = site
        site.trace.assign { try site.apply(.add(vector)) }
    }

    /// Subtracts from what is there.
    public static func -= (site: inout Site, vector: Tensor) {
        let site = site
        site.trace.assign { try site.apply(.add(vector, strength: -1)) }
    }

    /// Multiplies what is there.
    public static func *= (site: inout Site, factor: Double) {
        let site = site
        site.trace.assign { try site.apply(.scale(factor)) }
    }
}

/// The heads of an attention module, to choose from.
public struct Heads {
    let site: Site

    /// These heads only, in whatever value of the module is named next.
    public subscript(heads: Int...) -> Site {
        get { site.selecting { $0.heads = heads } }
        nonmutating set { site.selecting { $0.heads = heads }.take(newValue) }
    }
}

extension Trace {
    /// The trace itself as a place: its members are the model's top-level names.
    public var root: Site { Site(trace: self, path: "") }

    /// The layers.
    public var layers: Site { Site(trace: self, path: "layers") }

    /// A top-level name read as a value.
    public subscript(dynamicMember name: String) -> Tensor {
        get throws { try read(name) }
    }

    /// A top-level name as a place.
    @_disfavoredOverload
    public subscript(dynamicMember name: String) -> Site {
        get { root.member(name) }
        set { root.member(name).take(newValue) }
    }

    /// A top-level name assigned to.
    @_disfavoredOverload
    public subscript(dynamicMember name: String) -> any SiteValue {
        get { root.member(name) }
        set { root.member(name).take(newValue) }
    }

    /// A site by its name as a place: `trace["layers.3.attn.output"]`.
    public subscript(name: String) -> Site { Site(trace: self, path: name) }
}

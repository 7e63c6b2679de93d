import CMLXTerp

/// What a hook may know besides the value.
public struct HookEvent: Sendable {
    /// Full name of the site.
    public let site: String
    /// Generation step; 0 in a plain forward.
    public let step: Int
    /// Tokens of each row of the batch.
    public let lengths: [Int]

    init(_ event: mlxterp_event) {
        site = event.site.map { String(cString: $0) } ?? ""
        step = event.step
        lengths = event.lengths.map { lengths in (0..<event.rows).map { lengths[$0] } } ?? []
    }
}

extension Intervention {
    /// Whatever a closure makes of the value; `nil` leaves it unchanged.
    ///
    /// The closure may throw: the call that led to it throws the very same error. It is let go of when nothing needs the
    /// intervention any more. It must not use the trace that called it.
    public static func custom(
        _ name: String, _ hook: @escaping @Sendable (Tensor, HookEvent) throws -> Tensor?
    ) -> Intervention {
        Intervention {
            let name = try checked(name, "the name")
            let held = Unmanaged.passRetained(Hook(hook)).toOpaque()
            return try made { mlxterp_intervention_custom(name, callHook, held, forgetHook, $0) }
        }
    }

    /// Whatever a closure makes of the value; `nil` leaves it unchanged.
    public static func custom(_ name: String, _ hook: @escaping @Sendable (Tensor) throws -> Tensor?) -> Intervention {
        custom(name) { value, _ in try hook(value) }
    }
}

/// A closure behind the `user` pointer of the C interface.
private final class Hook: Sendable {
    let run: @Sendable (Tensor, HookEvent) throws -> Tensor?
    init(_ run: @escaping @Sendable (Tensor, HookEvent) throws -> Tensor?) { self.run = run }
}

private let callHook: mlxterp_hook_fn = { user, event, output in
    guard let user, let event, let output, let value = mlxterp_array_retain(event.pointee.value) else {
        return Int32(mlxterp_status.MLXTERP_STATUS_PANIC.rawValue)
    }
    let hook = Unmanaged<Hook>.fromOpaque(user).takeUnretainedValue()
    do {
        if let new = try hook.run(Tensor(value), HookEvent(event.pointee)) {
            // The library frees this one; `new` keeps its own.
            output.pointee = mlxterp_array_retain(new.raw)
        }
        return 0
    } catch {
        Pending.hold(error)
        return Int32(mlxterp_status.MLXTERP_STATUS_CALLBACK.rawValue)
    }
}

private let forgetHook: mlxterp_destroy_fn = { user in
    if let user {
        Unmanaged<Hook>.fromOpaque(user).release()
    }
}

import CMLXTerp
import Foundation

/// The library behind this package.
public enum Library {
    /// Its version, such as "0.1.0".
    public static var version: String { String(cString: mlxterp_version()) }

    /// Where MLX computes: "cpu", "metal" or "cuda".
    public static var backend: String { String(cString: mlxterp_backend()) }

    /// Handles alive in this process: what a leak test counts.
    public static var liveHandles: Int { mlxterp_live_handles() }

    /// Bytes that MLX holds in live arrays.
    public static var memoryUsed: Int { mlxterp_memory_used() }

    /// Refuses a library whose binary interface is another than the one this package was compiled for.
    static func checkVersion() throws {
        let found = mlxterp_abi_version()
        if found != UInt32(MLXTERP_ABI_VERSION) {
            throw MLXTerpError(
                .unsupported,
                "libmlxterp \(version) has binary interface \(found), this package wants \(MLXTERP_ABI_VERSION): "
                    + "install library and package of the same release")
        }
    }
}

/// The handle that a call puts into its last argument.
@inline(__always)
func made(
    site: @autoclosure () -> String? = nil, _ call: (UnsafeMutablePointer<OpaquePointer?>) -> mlxterp_status
) throws -> OpaquePointer {
    var out: OpaquePointer?
    try check(call(&out), site: site())
    guard let out else { throw MLXTerpError(.panic, "a call succeeded without a result") }
    return out
}

/// The text that a call puts into its last argument.
func text(
    site: String? = nil, _ call: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> mlxterp_status
) throws -> String {
    var out: UnsafeMutablePointer<CChar>?
    defer { mlxterp_string_free(out) }
    try check(call(&out), site: site)
    return out.map { String(cString: $0) } ?? ""
}

/// Refuses text that C would silently end early.
func checked(_ text: String, _ name: String) throws -> String {
    if text.utf8.contains(0) {
        throw MLXTerpError(.invalidArgument, "\(name) has a NUL character: remove it")
    }
    return text
}

/// Calls with C texts that live as long as the call.
func withCTexts<R>(_ texts: [String], _ name: String, _ body: ([UnsafePointer<CChar>?]) throws -> R) throws -> R {
    let copies = try texts.map { strdup(try checked($0, name)) }
    defer { copies.forEach { free($0) } }
    return try body(copies.map { UnsafePointer($0) })
}

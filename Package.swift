// swift-tools-version: 6.0
import PackageDescription

// The address and the checksum of a release's framework for Apple's platforms. Nothing was released yet.
let released: [(url: String, checksum: String)] = []

#if os(macOS)
let framework = released.last
#else
let framework: (url: String, checksum: String)? = nil
#endif

// The library itself: a framework that was built here (`cargo xtask xcframework`), the released one, or the libmlxterp that
// pkg-config finds (`cargo xtask install --prefix DIR`, then PKG_CONFIG_PATH=DIR/lib/pkgconfig).
let library: Target =
    if let path = Context.environment["MLXTERP_XCFRAMEWORK"] {
        .binaryTarget(name: "CMLXTerp", path: path)
    } else if let framework, Context.environment["PKG_CONFIG_PATH"] == nil {
        .binaryTarget(name: "CMLXTerp", url: framework.url, checksum: framework.checksum)
    } else {
        .systemLibrary(name: "CMLXTerp", path: "swift/CMLXTerp", pkgConfig: "mlxterp")
    }

let package = Package(
    name: "mlxterp",
    platforms: [.macOS(.v14)],
    products: [.library(name: "MLXTerp", targets: ["MLXTerp"])],
    targets: [
        library,
        .target(name: "MLXTerp", dependencies: ["CMLXTerp"], path: "swift/MLXTerp"),
        .executableTarget(name: "SiteRead", dependencies: ["MLXTerp"], path: "swift/Benchmarks/SiteRead"),
        .testTarget(name: "MLXTerpTests", dependencies: ["MLXTerp"], path: "swift/Tests/MLXTerpTests"),
    ]
)

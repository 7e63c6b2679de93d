// swift-tools-version: 6.0
import PackageDescription

let library: Target.Dependency = .product(name: "MLXTerp", package: "mlxterp")

let package = Package(
    name: "examples",
    platforms: [.macOS(.v14)],
    // In a package of your own: .package(url: "…/mlxterp", from: "0.1.0")
    dependencies: [.package(name: "mlxterp", path: "../..")],
    targets: [
        // A command line: `swift run Tour MODEL`.
        .executableTarget(name: "Tour", dependencies: [library], path: "Tour"),
        // A Mac app in two parts: what it knows, which runs and is tested anywhere, and what it shows.
        .target(name: "LensModel", dependencies: [library], path: "Lens/Model"),
        .executableTarget(name: "Lens", dependencies: ["LensModel"], path: "Lens/App"),
        .testTarget(name: "LensModelTests", dependencies: ["LensModel", library], path: "Lens/Tests"),
    ]
)

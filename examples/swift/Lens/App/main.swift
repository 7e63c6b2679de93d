#if canImport(SwiftUI)
LensApp.main()
#else
print("Lens is a window for macOS. Its model layer runs here too: swift test")
#endif

import CMLXTerp
import XCTest

@testable import MLXTerp

final class TensorTests: HandleTests {
    func testAViewIsTheVeryBuffer() throws {
        let tensor = try tiny().trace(tokens).output
        let address = try tensor.withUnsafeBytes { $0.baseAddress }
        var own: UnsafeRawPointer?
        XCTAssertEqual(mlxterp_array_data(tensor.raw, &own).rawValue, 0)
        XCTAssertEqual(address, own)
        XCTAssertTrue(tensor.isShared(with: own!))
        XCTAssertEqual(try tensor.withUnsafeElements(of: Float.self) { Array($0) }, try tensor.array(of: Float.self))
        assertThrows(.invalidArgument, try tensor.withUnsafeElements(of: Int32.self) { $0.count })
    }

    func testDataIsTheVeryBufferAndOutlivesTheTensor() throws {
        var tensor: Tensor? = try tiny().trace(tokens).output
        let address = try tensor!.withUnsafeBytes { $0.baseAddress }
        let values = try tensor!.array(of: Float.self)
        let data = try tensor!.dataNoCopy()
        tensor = nil
        data.withUnsafeBytes { bytes in
            XCTAssertEqual(bytes.baseAddress, address)
            XCTAssertEqual(Array(bytes.bindMemory(to: Float.self)), values)
        }
        XCTAssertGreaterThan(Library.liveHandles, 0)
    }

    func testAChangeOfTheDataIsNotSeenByTheTensor() throws {
        let tensor = try Tensor((0..<1000).map { Float($0) })
        var data = try tensor.data()
        data[0] = 1
        data.append(7)
        XCTAssertEqual(try tensor.array(of: Float.self)[..<2], [0, 1])
    }

    func testMemoryOfOursIsSharedAndGivenBackOnce() throws {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 16384, alignment: 16384)
        memory.bindMemory(to: Float.self).update(repeating: 3)
        let freed = Log()
        do {
            let tensor = try Tensor(bytesNoCopy: memory, shape: [64, 64], dtype: .float32) { freed.add("freed") }
            // MLX's CPU backend copies, and gives the memory back at once.
            let shared = Library.backend == "metal"
            XCTAssertEqual(tensor.isShared(with: memory.baseAddress!), shared)
            XCTAssertEqual(freed.lines, shared ? [] : ["freed"])
            XCTAssertEqual(try tensor.sum(axis: 0).sum(axis: 0).item(as: Float.self), 3 * 4096)
        }
        XCTAssertEqual(freed.lines, ["freed"])
        assertThrows(.shape, try Tensor(bytesNoCopy: memory, shape: [3], dtype: .float32) { freed.add("refused") })
        XCTAssertEqual(freed.lines, ["freed", "refused"])
        memory.deallocate()
    }

    func testAStridedViewAsksForACopy() throws {
        let tensor = try Tensor((0..<6).map { Float($0) }, shape: [2, 3]).transpose()
        let error = assertThrows(.unsupported, try tensor.withUnsafeBytes { $0.count })
        XCTAssertTrue(error?.message.contains("contiguous()") ?? false)
        XCTAssertEqual(try tensor.array(of: Float.self), [0, 3, 1, 4, 2, 5])
        XCTAssertEqual(try tensor.data().count, 24)
    }

    func testOperators() throws {
        let a = try Tensor([1, 2, 3] as [Float])
        let b = try Tensor([4, 5, 6] as [Float])
        func numbers(_ tensor: Tensor) throws -> [Float] { try tensor.array() }
        XCTAssertEqual(try numbers(a + b), [5, 7, 9])
        XCTAssertEqual(try numbers(b - a), [3, 3, 3])
        XCTAssertEqual(try numbers(a * b), [4, 10, 18])
        XCTAssertEqual(try numbers(b / a), [4, 2.5, 2])
        XCTAssertEqual(try numbers(a + 1), [2, 3, 4])
        XCTAssertEqual(try numbers(a - 1), [0, 1, 2])
        XCTAssertEqual(try numbers(a * 2), [2, 4, 6])
        XCTAssertEqual(try numbers(a / 2), [0.5, 1, 1.5])
        XCTAssertEqual(try numbers(1 - a), [0, -1, -2])
        XCTAssertEqual(try numbers(6 / a), [6, 3, 2])
        XCTAssertEqual(try numbers(-a), [-1, -2, -3])
        XCTAssertEqual(try numbers(a.matmul(b.reshape([3, 1]))), [32])
        XCTAssertEqual(try numbers(a.less(than: Tensor(2.5)).cast(to: .float32)), [1, 1, 0])
        XCTAssertEqual(try a.softmax().sum(axis: 0).item(as: Float.self), 1, accuracy: 1e-6)
        XCTAssertEqual(try b.topK(2).array(of: Int.self), [2, 1])
        XCTAssertEqual(try numbers(b.take(Tensor([2, 0] as [Int32]), axis: 0)), [6, 4])
        XCTAssertEqual(try Tensor.stack([a, b], axis: 0).shape, [2, 3])
        XCTAssertEqual(try numbers(Tensor.concatenate([a, b], axis: 0)), [1, 2, 3, 4, 5, 6])
        XCTAssertEqual(try numbers(Tensor.select(a.greater(than: Tensor(1.5)), a, b)), [4, 2, 3])
        var c = a
        try c += b
        try c *= 2
        XCTAssertEqual(try numbers(c), [10, 14, 18])
        XCTAssertEqual(try numbers(a), [1, 2, 3])
        assertThrows(.shape, try a + Tensor([1, 2] as [Float]))
    }

    func testSubscripts() throws {
        let x = try Tensor((0..<24).map { Int32($0) }, shape: [2, 3, 4])
        func numbers(_ tensor: Tensor) throws -> [Int] { try tensor.array() }
        XCTAssertEqual(try numbers(x[1, -1]), [20, 21, 22, 23])
        XCTAssertEqual(try numbers(x[0, 1..<3, 0]), [4, 8])
        XCTAssertEqual(try numbers(x[0, 0...1, 0]), [0, 4])
        XCTAssertEqual(try numbers(x[0, (-1)..., 0]), [8])
        XCTAssertEqual(try numbers(x[0, ..<1, 0]), [0])
        XCTAssertEqual(try numbers(x[.ellipsis, 3]), [3, 7, 11, 15, 19, 23])
        XCTAssertEqual(try x[.all, 0, .newAxis].shape, [2, 1, 4])
        XCTAssertEqual(try numbers(x[0, 0, TensorIndex.slice(0, 4, step: 2)]), [0, 2])
        XCTAssertEqual(try numbers(x.replacing(0, 0, with: Tensor(9, dtype: .int32))[0, 0]), [9, 9, 9, 9])
        assertThrows(.shape, try x[5])
        assertThrows(.shape, try x.item(as: Int.self))
    }

    func testEveryElementTypeComesBack() throws {
        XCTAssertEqual(try Tensor([true, false]).array(of: Bool.self), [true, false])
        XCTAssertEqual(try Tensor([1, 255] as [UInt8]).array(of: UInt8.self), [1, 255])
        XCTAssertEqual(try Tensor([-3, 4] as [Int64]).array(of: Int.self), [-3, 4])
        XCTAssertEqual(try Tensor([-3, 4]).dtype, .int64)
        XCTAssertEqual(try Tensor([1.5, -2] as [Float16]).array(of: Float.self), [1.5, -2])
        XCTAssertEqual(try Tensor([] as [Float]).array(of: Float.self), [])
        XCTAssertEqual(try Tensor(2.5).description.isEmpty, false)
        for dtype in DType.allCases where dtype != .complex64 && dtype != .float64 {
            let one = try Tensor(filledWith: 1, shape: [2], dtype: dtype)
            XCTAssertEqual(one.dtype, dtype)
            XCTAssertEqual(one.byteCount, 2 * dtype.byteCount)
        }
    }

    func testDLPackHoldsTheVeryBuffer() throws {
        let tensor = try Tensor([1, 2, 3] as [Float])
        let managed = try tensor.dlpack()
        let data = managed.load(fromByteOffset: 32, as: UnsafeRawPointer?.self)
        XCTAssertTrue(tensor.isShared(with: data!))
        XCTAssertEqual(managed.load(fromByteOffset: 40, as: Int32.self), 1)  // the CPU
        typealias Deleter = @convention(c) (UnsafeMutableRawPointer) -> Void
        managed.load(fromByteOffset: 16, as: Deleter.self)(managed)
    }
}
